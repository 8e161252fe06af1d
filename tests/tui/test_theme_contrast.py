"""Every shipped theme is readable: WCAG AA, 4.5:1, at every point of the ramp, with every mark, on every ground."""

import itertools
import math
from itertools import pairwise

import pytest
from rich.color import Color, ColorSystem
from rich.style import Style

from dgtui import paths
from dgtui.diffusion.events import Flag
from dgtui.tui.colour import AA, contrast, luminance, on_ramp, to_oklab
from dgtui.tui.frames import GLOW_STEPS, HELD
from dgtui.tui.theme import ANSI, MARKS, Theme
from dgtui.tui.theme_file import load_themes

SHIPPED, _ = load_themes([paths.shipped_dir("themes")])
PAINTED = {name: theme for name, theme in SHIPPED.items() if not theme.ansi}
FLAGS = [sum(some) for n in range(5) for some in itertools.combinations(Flag, n)]
NATS = [step**2 / 1000 for step in range(57)]
"""0 … 3.1, nearer to each other where they are small."""
painted = pytest.mark.parametrize("theme", PAINTED.values(), ids=PAINTED)


def shown(style: Style, theme: Theme) -> tuple[str, str]:
    """Text and ground colour of a style on the screen."""
    assert style.color is not None
    assert not style.dim, "Textual would fade it again"
    text, ground = style.color.name, style.bgcolor.name if style.bgcolor else theme.ground
    return (ground, text) if style.reverse else (text, ground)


def is_noise(flags: int) -> bool:
    return bool(flags & Flag.RENOISED and not flags & Flag.PINNED)


def all_styles(theme: Theme, *, noise: bool = False) -> set[Style]:
    """Tokens of any entropy in any state: as they are, selected, under the cursor, and both; `noise`: noise too."""
    look = theme.look()
    over = (Style(), look.selection, look.cursor, look.selection + look.cursor)
    return {
        look.style(nats, flags, settled=bool(glow), glow=glow) + top
        for nats in NATS
        for flags in (*FLAGS, HELD)
        for glow in range(GLOW_STEPS + 1)
        for top in over
        if noise or not is_noise(flags)
    }


def least(theme: Theme) -> float:
    return min(contrast(*shown(style, theme)) for style in all_styles(theme))


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == contrast("#ffffff", "#000000") == 21
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the well-known lightest grey on white
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert luminance("#ff0000") == pytest.approx(0.2126)


@painted
def test_every_token_passes_aa_on_its_ground(theme: Theme) -> None:
    assert least(theme) >= AA
    worst = theme.worst_contrast()
    assert worst is not None and worst == pytest.approx(least(theme), abs=0.1)


@painted
def test_it_passes_aa_between_the_levels_that_are_drawn_too(theme: Theme) -> None:
    for position in (step / 500 for step in range(501)):
        color = on_ramp(theme.ramp, position)
        assert min(contrast(color, ground) for ground in (theme.ground, theme.pinned, theme.selection)) >= AA


@painted
def test_it_passes_aa_when_a_terminal_has_256_colours(theme: Theme) -> None:
    limited = theme.for_terminal("256")
    assert least(limited) >= AA
    for style in all_styles(limited, noise=True):
        for color in shown(style, limited):
            assert Color.parse(color).downgrade(ColorSystem.EIGHT_BIT).get_truecolor().hex == color


def test_high_contrast_passes_aaa() -> None:
    assert least(SHIPPED["contrast"]) >= 7.0  # WCAG AAA


@painted
def test_noise_is_quieter_than_whatever_is_to_be_read_and_can_be_seen(theme: Theme) -> None:
    look = theme.look()
    for nats in NATS:
        noise, plain = look.style(nats, Flag.RENOISED), look.style(nats, 0)
        assert noise.italic or 1.15 <= contrast(*shown(noise, theme)) < contrast(*shown(plain, theme)) / 2


@painted
def test_what_has_just_settled_glows_and_fades_over_three_steps(theme: Theme) -> None:
    look = theme.look()
    plain, *glowing = (look.style(0.0, 0, settled=True, glow=glow) for glow in range(GLOW_STEPS + 1))
    away = [math.dist(to_oklab(shown(plain, theme)[0]), to_oklab(shown(style, theme)[0])) for style in glowing]
    assert 0 < away[0] <= away[1] <= away[2]
    assert [bool(style.bold) for style in glowing] == [False, False, True]


@painted
def test_dim_is_seen_where_text_is_certain(theme: Theme) -> None:
    """It may vanish at the other end of the ramp, where the hue has the same meaning."""
    look = theme.look()
    plain, dim = look.style(0.0, 0), look.style(0.0, Flag.RENOISED)
    assert dim.italic or contrast(shown(plain, theme)[0], shown(dim, theme)[0]) >= 1.5


@painted
def test_grounds_are_told_apart_in_greys(theme: Theme) -> None:
    for shades in (theme, theme.for_terminal("256")):
        assert contrast(shades.pinned, shades.ground) >= 1.25
        assert contrast(shades.selection, shades.ground) >= 1.25
        assert shades.pinned != shades.selection


@painted
def test_in_greys_the_more_certain_stands_out_more(theme: Theme) -> None:
    strength = [contrast(stop, theme.ground) for stop in theme.ramp]
    assert all(before >= after - 0.2 for before, after in pairwise(strength))


def test_the_ramp_for_colour_blind_eyes_never_rests_on_red_against_green() -> None:
    """They differ in lightness and from blue to yellow, which nearly all kinds of colour blindness keep."""
    stops = [to_oklab(stop) for stop in SHIPPED["cividis"].ramp]
    assert all(before[0] > after[0] for before, after in pairwise(stops))
    for (l1, a1, b1), (l2, a2, b2) in pairwise(stops):
        assert abs(a1 - a2) < abs(l1 - l2) + abs(b1 - b2)
    assert stops[-1][2] < -0.08 < 0.15 < stops[1][2]


TEXTS = [
    ("foreground", ("background", "surface", "panel")),
    ("text-muted", ("background", "surface", "panel")),
    ("foreground-muted", ("background", "surface", "panel")),
    ("canvas-muted", ("canvas-ground", "surface", "panel")),
    ("canvas-settled", ("canvas-ground", "canvas-pinned", "canvas-selection")),
    ("canvas-undecided", ("canvas-ground", "canvas-pinned", "canvas-selection")),
    *((f"text-{name}", ("background", "surface", "panel")) for name in ("primary", "secondary", "accent")),
    *((f"text-{name}", ("background", "surface", "panel")) for name in ("success", "warning", "error")),
    *((f"markdown-h{level}-color", ("background", "surface")) for level in range(1, 7)),
    ("footer-key-foreground", ("footer-background",)),
    ("footer-description-foreground", ("footer-background",)),
    ("footer-foreground", ("footer-background",)),
    ("block-cursor-foreground", ("block-cursor-background",)),
    ("block-cursor-blurred-foreground", ("block-cursor-blurred-background",)),
    ("input-cursor-foreground", ("input-cursor-background",)),
    ("input-selection-foreground", ("input-selection-background",)),
    ("screen-selection-foreground", ("screen-selection-background",)),
    ("link-color", ("background", "surface")),
    ("link-color-hover", ("link-background-hover",)),
    ("button-color-foreground", ("primary",)),
]


@painted
@pytest.mark.parametrize(("text", "grounds"), TEXTS, ids=[text for text, _ in TEXTS])
def test_the_rest_of_the_screen_passes_aa(theme: Theme, text: str, grounds: tuple[str, ...]) -> None:
    made = theme.textual()
    variables = {**made.to_color_system().generate(), **made.variables}
    for ground in grounds:
        assert contrast(variables[text].lower(), variables[ground].lower()) >= AA, ground


@painted
def test_focus_is_seen(theme: Theme) -> None:
    """WCAG requires 3:1 for parts that are not text."""
    variables = theme.textual().variables
    assert contrast(variables["canvas-border-focus"], theme.ground) >= 3


@pytest.mark.parametrize("theme", [theme for theme in SHIPPED.values() if theme.ansi], ids=lambda theme: theme.name)
def test_a_theme_of_the_terminals_colours_names_nothing_else(theme: Theme) -> None:
    assert {*theme.colors.values(), *theme.ramp} <= set(ANSI)
    words = {word for mark in theme.all_marks.values() for word in mark.split()}
    assert words <= {*ANSI, "on", "not", "bold", "dim", "italic", "underline", "strike", "reverse"}
    made = theme.textual()
    attributes = ("none", "bold", "reverse", "underline", "transparent", "not", "b", "initial")
    for name, value in {**made.to_color_system().generate(), **made.variables}.items():
        assert all(word in attributes or word.removeprefix("ansi_") in ANSI for word in value.split()), (name, value)


def test_where_text_and_ground_are_both_named_they_are_black_on_a_colour() -> None:
    """Any other pair is the same colour in some scheme. Black comes without bold, which may make it bright black."""
    for theme in (theme for theme in SHIPPED.values() if theme.ansi):
        for mark in MARKS:
            style = Style.parse(theme.all_marks[mark])
            if style.bgcolor:
                assert style.color is not None and style.color.name == "black"
                assert style.bold is False and style.reverse is False
                assert style.bgcolor.name in ("cyan", "yellow", "green", "white")
