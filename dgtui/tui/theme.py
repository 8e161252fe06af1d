"""Themes as data, and how they draw the tokens of a canvas.

A theme uses either its own colours ("#rrggbb") or those of the terminal ("blue", "default"), never both. The ramp shows
the entropy of a token; the marks, which also work without colours, show what the last step did to it. In a theme with
its own colours "dim" is a colour too, faded as far as WCAG AA allows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from rich.style import Style

from dgtui.diffusion.events import Flag
from dgtui.tui.colour import contrast, faded, in_256, mix, on_ramp, readable
from dgtui.tui.frames import GLOW_STEPS, HELD

if TYPE_CHECKING:
    from textual.theme import Theme as TextualTheme

COLORS: Final = (
    "primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface", "panel",
)  # fmt: skip
"""The colours that a theme may set, by their names in Textual. Only primary is required."""

ANSI: Final = (
    "default", "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white", "bright_black", "bright_red",
    "bright_green", "bright_yellow", "bright_blue", "bright_magenta", "bright_cyan", "bright_white",
)  # fmt: skip
"""The colours of the terminal."""

MARKS: Final[Mapping[str, str]] = MappingProxyType(
    {"accepted": "bold", "renoised": "dim", "changed": "underline", "pinned": "reverse", "cursor": "reverse",
     "selection": "underline italic"}
)  # fmt: skip
"""All marks, with their styles for terminals without colours."""

_ANSI_MARKS: Final = {
    # Not "reverse": a cursor on a pinned token must stay visible
    "cursor": "black on yellow not bold not dim not reverse",
    "selection": "black on cyan not bold not dim not reverse",
}

VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "canvas-ground": "#13141f",
        "canvas-border": "#42455a",
        "canvas-border-focus": "#7aa2f7",
        "canvas-muted": "#868ca5",
        "canvas-settled": "#cdd5f5",
        "canvas-undecided": "#f7819a",
        "canvas-pinned": "#352f57",
        "canvas-selection": "#203d5c",
    }
)
"""dgtui's CSS variables with their defaults, for `App.get_theme_variable_defaults`: CSS with an unknown variable fails
to parse, even with Textual's own themes."""

_SETTLED: Final = 0.05
_UNDECIDED: Final = 3.0
_LEVELS: Final = 48
_FAINTEST: Final = 0.08
"""Position on the ramp below which a map shows nothing."""
NOISE_SHARE: Final = 0.35
"""The position of the colour of noise between the ground and the colour of its entropy."""


def ramp_position(entropy: float) -> float:
    """Nats → position on the ramp: 0 up to 0.05, 1 from 3 on, a square root between, so small ones differ most."""
    if math.isnan(entropy):
        return 1.0
    return math.sqrt(min(1.0, max(0.0, (entropy - _SETTLED) / (_UNDECIDED - _SETTLED))))


@dataclass(frozen=True)
class Theme:
    """A valid theme; `theme_file` reads it from a file."""

    name: str
    dark: bool
    """Whether text is light on a dark ground. A guess if the terminal's colours are used."""
    colors: Mapping[str, str]
    """A part of `COLORS`, each "#rrggbb" or one of `ANSI`."""
    ramp: tuple[str, ...]
    """2 to 9 colours, from settled to undecided."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """A part of `MARKS` → a style in rich's notation."""
    ansi: bool = False
    """Whether the colours are those of the terminal."""
    source: Path | None = None
    """The file."""
    limited: bool = False
    """Whether all colours, including mixtures, are from the palette of 256."""

    def look(self, *, color: bool = True) -> "Look":
        """The styles of tokens; without colour (NO_COLOR) with attributes only."""
        return Look(self, color=color)

    def textual(self) -> "TextualTheme":
        """The theme for `App.register_theme`, with all `VARIABLES`."""
        from dgtui.tui.theme_css import textual_theme

        return textual_theme(self)

    @property
    def ground(self) -> str:
        """The background of the canvas."""
        return self.palette["background"]

    @property
    def pinned(self) -> str:
        """The ground of pinned tokens; the canvas's ground if the mark has none."""
        return self._ground_of("pinned")

    @property
    def selection(self) -> str:
        """The ground of selected tokens; the canvas's ground if the mark has none."""
        return self._ground_of("selection")

    @cached_property
    def palette(self) -> Mapping[str, str]:
        """All `COLORS`: missing ones are derived from the given ones."""
        given = self.colors
        primary = given["primary"]
        accents = {"secondary": primary, "accent": given.get("secondary", primary)}
        if self.ansi:
            status = {"success": "green", "warning": "yellow", "error": "red"}
            return dict.fromkeys(COLORS, "default") | accents | status | dict(given)
        background = given.get("background", "#16161a" if self.dark else "#f7f5f0")
        foreground = given.get("foreground", readable(self.ramp[0], [background]))
        status = {"success": "#9ece6a", "warning": "#e0af68", "error": "#f7768e"}
        return {
            **accents,
            **{name: readable(color, [background]) for name, color in status.items()},
            "foreground": foreground,
            "background": background,
            "surface": mix(background, foreground, 0.04),
            "panel": mix(background, foreground, 0.08),
            **given,
        }

    @cached_property
    def all_marks(self) -> Mapping[str, str]:
        """All `MARKS`: missing ones are derived from the colours."""
        if self.ansi:
            return {**MARKS, **_ANSI_MARKS, **self.marks}
        colors = self.palette
        pinned, selection = (mix(colors["background"], colors[name], 0.25) for name in ("accent", "primary"))
        return {**MARKS, "pinned": f"on {pinned}", "selection": f"on {selection}", **self.marks}

    def for_terminal(self, color_system: str | None) -> "Theme":
        """The theme in the colours of a terminal: "truecolor", "256" or less, as rich calls them.

        Grounds and text are rounded to 256 colours together, to keep their contrast. With fewer colours the terminal's
        own are used.
        """
        if self.ansi or color_system == "truecolor":
            return self
        if color_system != "256":
            return replace(PLAIN, name=self.name, dark=self.dark)
        ground = in_256(self.ground)
        pinned = in_256(self.pinned, without=[ground])
        selection = in_256(self.selection, without=[ground, pinned])
        grounds = {"pinned": (self.pinned, pinned), "selection": (self.selection, selection)}
        marks = {name: mark.replace(*grounds.get(name, ("", ""))) for name, mark in self.all_marks.items()}
        colors = {name: in_256(color) for name, color in self.palette.items()}
        return replace(self, colors=colors, marks=marks, limited=True)

    def worst_contrast(self) -> float | None:
        """The lowest contrast of a token, over the ramp, all marks and the selection, but not of noise.

        None for colours of the terminal, which are unknown.
        """
        if self.ansi:
            return None
        look = self.look()
        flags = (0, Flag.ACCEPTED, HELD, Flag.CHANGED, Flag.PINNED)
        styles = [look.at_level(level, flag) for level in range(_LEVELS + 1) for flag in flags]
        return min(self._contrast(style) for token in styles for style in (token, token + look.selection))

    def _contrast(self, style: Style) -> float:
        color = style.color.name if style.color else self.palette["foreground"]
        return contrast(color, style.bgcolor.name if style.bgcolor else self.ground)

    def _ground_of(self, mark: str) -> str:
        ground = Style.parse(self.all_marks[mark]).bgcolor
        return self.ground if ground is None else ground.name


class Look:
    """How tokens are drawn in one theme. Styles are cached, and have a ground only if a mark has one."""

    def __init__(self, theme: Theme, *, color: bool = True) -> None:
        self.theme, self.color = theme, color
        marks = theme.all_marks if color else MARKS
        self._marks = {flag: Style.parse(marks[name]) for flag, name in _MARK_OF.items()}
        self.cursor = Style.parse(marks["cursor"])
        """Added to the style of a token."""
        self.selection = Style.parse(marks["selection"])
        """Added to the style of a token."""
        if not color:
            # Keeps the cursor visible on a pinned token and in a selection
            self.cursor += Style(bold=True, underline=True)
        self._grounds = [] if theme.ansi or not color else [theme.ground, theme.selection, theme.pinned]
        self._ramp = [self._ramp_color(level / _LEVELS) for level in range(_LEVELS + 1)]
        self._styles: dict[tuple[int, int], Style] = {}

    def style(self, entropy: float, flags: int, settled: bool = False, glow: int = 0) -> Style:
        """The style of a token.

        Args:
            entropy: Nats.
            flags: Combination of `events.Flag` and `frames.HELD`. Pinned hides all other flags.
            settled: Accepted in this step and the one before, and no longer drawn as accepted.
            glow: How fresh a settled token is, see `frames.View`.
        """
        style = self.at_level(round(ramp_position(entropy) * _LEVELS), flags & ~Flag.ACCEPTED if settled else flags)
        return self._glowing(style, glow) if glow and not flags & (Flag.PINNED | HELD) else style

    def _glowing(self, style: Style, glow: int) -> Style:
        """The style of a token that has just settled. With the terminal's colours, only the newest is bold."""
        if self._grounds and style.color:
            lit = mix(style.color.name, readable(self.theme.palette["success"], self._grounds), glow / GLOW_STEPS)
            style += Style(color=self._shown(readable(lit, self._grounds)))
        return style + Style(bold=True) if glow == GLOW_STEPS else style

    def at_level(self, level: int, flags: int) -> Style:
        """The style of a token at a level of the ramp, 0 … 48."""
        style = self._styles.get((level, flags))
        if style is None:
            style = self._styles[level, flags] = self._make(level, flags)
        return style

    def ramp(self, entropy: float) -> str:
        """The colour of an entropy (nats), in rich's notation, for the bars of the timeline."""
        return self._ramp[round(ramp_position(entropy) * _LEVELS)]

    def heat(self, entropy: float) -> str | None:
        """The colour of an entropy (nats) in a map, the stronger the less certain. None: certain, the ground shows."""
        position = ramp_position(entropy)
        if position < _FAINTEST:
            return None
        color = self._ramp[round(position * _LEVELS)]
        if not self._grounds:
            return color
        faint = mix(self.theme.ground, color, 0.3 + 0.7 * position)
        return in_256(faint) if self.theme.limited else faint

    def _ramp_color(self, position: float) -> str:
        if not self.color:
            return "default"
        stops = self.theme.ramp
        if self.theme.ansi:
            return stops[round(position * (len(stops) - 1))]
        return self._shown(on_ramp(stops, position))

    def _shown(self, color: str) -> str:
        """The colour, or the nearest readable one that the terminal has."""
        return in_256(color, self._grounds) if self.theme.limited else color

    def _make(self, level: int, flags: int) -> Style:
        if flags & HELD and not flags & Flag.PINNED:  # less prominent than the part that is written
            level = 0
        style = Style(color=self._ramp[level]) if self.color else Style()
        if flags & HELD and not flags & Flag.PINNED:
            style += self._marks[Flag.RENOISED]
        for flag in (Flag.PINNED,) if flags & Flag.PINNED else (Flag.ACCEPTED, Flag.RENOISED, Flag.CHANGED):
            if flags & flag:
                style += self._marks[flag]
        if style.dim and self._grounds and style.color:
            # Textual fades dim text by a fixed share, without regard to its contrast
            ground = style.bgcolor.name if style.bgcolor else self.theme.ground
            if flags & Flag.RENOISED:  # noise need not be readable
                noise = mix(ground, style.color.name, NOISE_SHARE)
                return style + Style(color=in_256(noise) if self.theme.limited else noise, dim=False)
            dimmed = faded(style.color.name, ground, [*self._grounds, ground])
            style += Style(color=self._shown(dimmed), dim=False)
        return style


_MARK_OF: Final = {
    Flag.PINNED: "pinned", Flag.ACCEPTED: "accepted", Flag.RENOISED: "renoised", Flag.CHANGED: "changed",
}  # fmt: skip

PLAIN: Final = Theme("plain", True, {"primary": "cyan"}, ("default", "cyan", "magenta", "red"), ansi=True)
"""The colours of the terminal: the fallback without any theme, and for terminals of 16 colours."""
