"""Converts a theme to a Textual theme: the CSS variables for dgtui's style sheets and for Textual's widgets.

dgtui's variables start with `canvas-`. Of Textual's own, only those are set whose defaults make text too faint.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dgtui.tui.colour import contrast, faded, mix, readable

if TYPE_CHECKING:
    from textual.theme import Theme as TextualTheme

    from dgtui.tui.theme import Theme

_TEXTS: Final = ("primary", "secondary", "warning", "error", "success", "accent")


def textual_theme(theme: "Theme") -> "TextualTheme":
    """The theme for `App.register_theme`."""
    from textual.theme import Theme as TextualTheme

    colors = dict(theme.palette)
    if theme.ansi:
        colors = {name: f"ansi_{color}" for name, color in colors.items()}
    variables = _ansi_variables(theme, colors) if theme.ansi else _variables(theme, colors)
    return TextualTheme(
        name=theme.name,
        primary=colors["primary"],
        secondary=colors["secondary"],
        warning=colors["warning"],
        error=colors["error"],
        success=colors["success"],
        accent=colors["accent"],
        foreground=colors["foreground"],
        background=colors["background"],
        surface=colors["surface"],
        panel=colors["panel"],
        dark=theme.dark,
        ansi=theme.ansi,
        variables=variables,
    )


def _variables(theme: "Theme", colors: Mapping[str, str]) -> dict[str, str]:
    ground, text, primary = theme.ground, colors["foreground"], colors["primary"]
    grounds = [ground, colors["surface"], colors["panel"]]
    shades = {f"text-{name}": readable(colors[name], grounds) for name in _TEXTS}
    muted, border = faded(text, ground, grounds), mix(ground, text, 0.28)
    on_primary = max((ground, text, "#ffffff", "#000000"), key=lambda color: contrast(color, primary))
    selected = {"background": theme.selection, "foreground": readable(text, [theme.selection])}
    return {
        "canvas-ground": ground,
        "canvas-border": border,
        "canvas-border-focus": primary,
        "canvas-muted": muted,
        "canvas-settled": theme.ramp[0],
        "canvas-undecided": theme.ramp[-1],
        "canvas-pinned": theme.pinned,
        "canvas-selection": theme.selection,
        **shades,
        **dict.fromkeys(("text-muted", "foreground-muted", "markdown-h6-color"), muted),
        "footer-description-foreground": muted,
        **dict.fromkeys(("link-color", *(f"markdown-h{level}-color" for level in (1, 2, 3))), shades["text-primary"]),
        **_under("input-selection", selected),
        **_under("screen-selection", selected),
        **_under("block-cursor-blurred", selected),
        **_under("block-cursor", {"background": primary, "foreground": on_primary}),
        **_under("input-cursor", {"background": text, "foreground": ground}),
        "border": primary,
        "border-blurred": border,
        "footer-background": colors["panel"],
        "footer-key-foreground": shades["text-accent"],
        "button-color-foreground": on_primary,
        "link-background-hover": primary,
        "link-color-hover": on_primary,
        "scrollbar": border,
        "scrollbar-hover": mix(ground, text, 0.45),
        "scrollbar-active": primary,
        **dict.fromkeys(("scrollbar-background", "scrollbar-background-hover", "scrollbar-background-active"), ground),
    }


def _ansi_variables(theme: "Theme", colors: Mapping[str, str]) -> dict[str, str]:
    """Plain names only: a terminal cannot show a share of a colour (`ansi_red 50%`), which Textual's defaults use."""
    text, primary, faint = colors["foreground"], colors["primary"], "ansi_bright_black"
    inverse = {"background": primary, "foreground": "ansi_black"}
    # Attributes remain when NO_COLOR removes the colours
    cursor = {"background": colors["background"], "foreground": primary, "text-style": "bold reverse"}
    return {
        "canvas-ground": colors["background"],
        "canvas-border": faint,
        "canvas-border-focus": primary,
        "canvas-muted": text,
        "canvas-settled": f"ansi_{theme.ramp[0]}",
        "canvas-undecided": f"ansi_{theme.ramp[-1]}",
        "canvas-pinned": f"ansi_{theme.pinned}",
        "canvas-selection": f"ansi_{theme.selection}",
        **dict.fromkeys(("text-muted", "text-disabled", "foreground-muted", "foreground-disabled"), text),
        **dict.fromkeys((f"{name}-muted" for name in _TEXTS), "ansi_default"),
        "background-muted": "ansi_default",
        "surface-active": "ansi_default",
        "ansi-background": colors["background"],
        "ansi-foreground": text,
        **_under("input-selection", inverse),
        **_under("screen-selection", inverse),
        **_under("block-cursor", cursor),
        **_under("block-cursor-blurred", cursor | {"text-style": "underline"}),
        **_under("input-cursor", {"background": colors["background"], "foreground": text, "text-style": "reverse"}),
        "border": primary,
        "border-blurred": faint,
        "footer-key-foreground": colors["accent"],
        "link-color": primary,
        **_under("link", {"background-hover": primary, "color-hover": "ansi_black"}),
        **{f"markdown-h{level}-color": primary for level in range(1, 7)},
        "scrollbar": faint,
        "scrollbar-hover": primary,
        "scrollbar-active": primary,
        **dict.fromkeys(
            ("scrollbar-background", "scrollbar-background-hover", "scrollbar-background-active"), colors["background"]
        ),
    }


def _under(name: str, parts: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}-{part}": value for part, value in parts.items()}
