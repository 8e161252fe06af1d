"""Themes: token states differ in any terminal, and no file stops the program."""

import os
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Footer, Input, Markdown, OptionList, TextArea

from dgtui import paths
from dgtui.config import Settings
from dgtui.diffusion.events import Flag
from dgtui.tui.colour import from_oklab, mix, on_ramp, to_oklab
from dgtui.tui.theme import ANSI, PLAIN, VARIABLES, Theme, ramp_position
from dgtui.tui.theme_file import MAX_BYTES, load_theme, load_themes, stamp, theme_folders

SHIPPED, _ = load_themes([paths.shipped_dir("themes")])
MINIMAL = '[colors]\nprimary = "#7aa2f7"\n[entropy]\nramp = ["#fff", "#f00"]\n'
STATES = [
    0, Flag.PINNED, Flag.ACCEPTED, Flag.ACCEPTED | Flag.CHANGED, Flag.RENOISED, Flag.RENOISED | Flag.CHANGED,
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "themes"
    folder.mkdir()
    return folder


def wrong(folder: Path, source: str | bytes) -> list[str]:
    """The messages about a file that is not a theme."""
    (folder / "mine.toml").write_bytes(source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source)
    themes, problems = load_themes([folder])
    assert themes == {}
    assert problems
    return [str(problem).replace(f"{folder}/", "") for problem in problems]


# The shipped ones


def test_the_shipped_themes_load_and_are_named_as_their_files() -> None:
    themes, problems = load_themes([paths.shipped_dir("themes")])
    assert problems == []
    assert {"midnight", "paper", "cividis", "contrast", "terminal"} < themes.keys()
    assert [theme.source and theme.source.stem for theme in themes.values()] == list(themes)


def test_there_is_light_and_dark_and_the_default_is_dark() -> None:
    assert {theme.dark for theme in SHIPPED.values()} == {True, False}
    assert SHIPPED[Settings().screen.theme].dark
    assert [name for name, theme in SHIPPED.items() if theme.ansi] == ["terminal"]


# The ramp


def test_mixing_half_way_between_black_and_white_looks_half_as_light() -> None:
    assert mix("#000000", "#ffffff", 0.5) == "#636363"  # in sRGB it would be #808080, which looks lighter than half


@given(st.integers(0, 0xFFFFFF))
def test_every_colour_survives_oklab(number: int) -> None:
    color = f"#{number:06x}"
    assert from_oklab(to_oklab(color)) == color


@given(st.lists(st.integers(0, 0xFFFFFF).map("#{:06x}".format), min_size=2, max_size=9))
def test_a_ramp_goes_through_its_stops(stops: list[str]) -> None:
    assert [on_ramp(stops, at / (len(stops) - 1)) for at in range(len(stops))] == stops
    assert (on_ramp(stops, -1.0), on_ramp(stops, 2.0)) == (stops[0], stops[-1])


def test_certain_tokens_are_at_the_start_of_the_ramp_and_guesses_at_its_end() -> None:
    assert [ramp_position(nats) for nats in (0.0, -0.0, 0.05, 3.0, 12.5, float("inf"), float("nan"))] == [
        0, 0, 0, 1, 1, 1, 1,
    ]  # fmt: skip
    places = [ramp_position(nats / 100) for nats in range(5, 301)]
    assert all(before < after for before, after in pairwise(places))


def test_a_look_paints_the_ends_of_the_ramp_as_they_are() -> None:
    for theme in SHIPPED.values():
        look = theme.look()
        assert (look.ramp(0.0), look.ramp(9.0)) == (theme.ramp[0], theme.ramp[-1])


# How a token is drawn


def visible(style: Style) -> tuple[object, ...]:
    attributes = ("bold", "dim", "italic", "underline", "reverse", "strike")
    return (style.color, style.bgcolor, *(bool(getattr(style, attribute)) for attribute in attributes))


@pytest.mark.parametrize("color", [True, False], ids=["colours", "NO_COLOR"])
@pytest.mark.parametrize("theme", SHIPPED.values(), ids=SHIPPED)
def test_states_selection_and_cursor_are_told_apart(theme: Theme, color: bool) -> None:
    """By marks at the same entropy; a selection or the cursor is always visible."""
    look = theme.look(color=color)
    styles = [look.style(0.7, flags) for flags in STATES]
    plain = {visible(style) for style in styles}
    selected = {visible(style + look.selection) for style in styles}
    under_cursor = {visible(style + look.cursor) for style in styles}
    assert len(plain) == len(STATES)
    assert not plain & selected and not plain & under_cursor and not selected & under_cursor
    if not color:
        assert {style[:2] for style in plain | selected | under_cursor} == {(None, None)}


def test_marks_are_those_of_the_design() -> None:
    look = SHIPPED["midnight"].look()
    assert look.style(0.0, 0) == Style(color="#cdd5f5")
    assert look.style(0.0, Flag.ACCEPTED).bold
    assert look.style(0.0, Flag.CHANGED).underline
    assert look.style(0.0, Flag.PINNED).bgcolor is not None
    assert look.style(0.0, Flag.RENOISED).color != look.style(0.0, 0).color
    assert look.cursor.reverse


def test_a_settled_token_is_plain_although_it_is_accepted_again() -> None:
    look = SHIPPED["midnight"].look()
    assert look.style(0.01, Flag.ACCEPTED, settled=True) == look.style(0.01, 0)


def test_a_pinned_token_shows_nothing_of_what_a_step_did() -> None:
    look = SHIPPED["midnight"].look()
    every = Flag.PINNED | Flag.ACCEPTED | Flag.RENOISED | Flag.CHANGED
    assert look.style(0.0, every) == look.style(0.0, Flag.PINNED)


def test_styles_are_made_once() -> None:
    look = SHIPPED["midnight"].look()
    assert look.style(1.0, Flag.ACCEPTED) is look.style(1.0, Flag.ACCEPTED)


@pytest.mark.parametrize("theme", SHIPPED.values(), ids=SHIPPED)
def test_sixteen_colours_are_the_terminals_own(theme: Theme) -> None:
    for system in ("standard", "windows", None):
        shown = theme.for_terminal(system)
        assert shown.ansi and shown.name == theme.name
    assert theme.for_terminal("truecolor") is theme


# Files


def test_a_theme_needs_a_primary_colour_and_a_ramp_and_no_more(folder: Path) -> None:
    (folder / "small.toml").write_text(MINIMAL)
    theme, problems = load_theme(folder / "small.toml")
    assert problems == []
    assert theme is not None
    assert (theme.name, theme.dark, theme.ansi, theme.ramp) == ("small", True, False, ("#ffffff", "#ff0000"))
    assert theme.textual().primary == "#7aa2f7"
    assert visible(theme.look().style(0.0, Flag.PINNED)) != visible(theme.look().style(0.0, 0))


def test_everything_a_theme_can_say_is_read(folder: Path) -> None:
    (folder / "all.toml").write_text(
        "\ufeff"
        + """
name = "All-1_x"
dark = false
[colors]
primary = "#ABCDEF"
secondary = "#123"
warning = "#123456"
error = "#123456"
success = "#123456"
accent = "#123456"
foreground = "#000"
background = " #fff "
surface = "#eeeeee"
panel = "#dddddd"
[entropy]
ramp = ["#000", "#111", "#222", "#333", "#444", "#555", "#666", "#777", "#888"]
[marks]
accepted = "Bold italic"
renoised = "none"
changed = ""
pinned = "strike not bold on #FEDCBA"
selection = "#102030 on #fff"
cursor = "reverse"
""",
        encoding="utf-8",
    )
    theme, problems = load_theme(folder / "all.toml")
    assert problems == []
    assert theme is not None
    assert (theme.name, theme.dark, len(theme.ramp)) == ("All-1_x", False, 9)
    assert (theme.colors["primary"], theme.colors["secondary"], theme.ground) == ("#abcdef", "#112233", "#ffffff")
    assert dict(theme.marks) == {
        "accepted": "bold italic", "renoised": "", "changed": "", "pinned": "strike not bold on #fedcba",
        "selection": "#102030 on #ffffff", "cursor": "reverse",
    }  # fmt: skip
    assert theme.look().selection == Style.parse("#102030 on #ffffff")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("drak = true\n" + MINIMAL, "mine.toml:1: unknown key drak (did you mean dark?)"),
        (MINIMAL + "[mark]\npinned = 'bold'\n", "mine.toml:5: unknown key mark (did you mean marks?)"),
        (MINIMAL + "[marks]\n\npined = 'bold'\n", "mine.toml:7: unknown key marks.pined (did you mean pinned?)"),
        ("dark = 'yes'\n" + MINIMAL, "mine.toml:1: dark must be true or false"),
        ("name = 'a b'\n" + MINIMAL, "mine.toml:1: name must start with a letter and have at most 40"),
        ("name = 3\n" + MINIMAL, "mine.toml:1: name must start with a letter"),
        ("[colors]\nprimary = '#12345'\n[entropy]\nramp = ['#fff', '#000']", "mine.toml:2: colors.primary: '#12345'"),
        (MINIMAL.replace("#f00", "#ff"), "mine.toml:4: entropy.ramp: '#ff' is not a colour such as #7aa2f7 or cyan"),
        (MINIMAL.replace('"#fff", ', '"#fff",\n  "nil",\n'), "mine.toml:5: entropy.ramp: 'nil' is not a colour"),
        ("[colors]\nprimary = 'bleu'\n[entropy]\nramp = ['red', 'blue']", "mine.toml:2: colors.primary: 'bleu' is"),
        (MINIMAL.replace('"#7aa2f7"', "3"), "mine.toml:2: colors.primary: 3 is not a colour"),
        (MINIMAL.replace('"#7aa2f7"', '"#7aa2f780"'), "mine.toml:2: colors.primary: '#7aa2f780' is not a colour"),
        (MINIMAL.replace("primary", "accent"), "mine.toml:1: colors.primary is missing"),
        ("[colors]\nprimary = '#fff'\n", "mine.toml: entropy.ramp is missing"),
        (MINIMAL.replace(', "#f00"', ""), "mine.toml:4: entropy.ramp must be a list of 2 to 9 colours"),
        (MINIMAL.replace('"#fff"', ", ".join(['"#fff"'] * 9)), "mine.toml:4: entropy.ramp must be a list of 2 to 9"),
        (MINIMAL.replace('["#fff", "#f00"]', '"#fff"'), "mine.toml:4: entropy.ramp must be a list"),
        (MINIMAL.replace('"#f00"', "['#f00']"), "mine.toml:4: entropy.ramp: ['#f00'] is not a colour"),
        (MINIMAL.replace('"#f00"', '"red"'), "mine.toml:4: entropy.ramp: red in a theme whose colors.primary is"),
        (MINIMAL + "[marks]\npinned = 'on red'", "mine.toml:6: marks.pinned: red in a theme whose colors.primary is"),
        (MINIMAL + "[marks]\npinned = 'blod'", "mine.toml:6: marks.pinned: 'blod' is not an attribute or a colour"),
        (MINIMAL + "[marks]\npinned = 'blink'", "mine.toml:6: marks.pinned: 'blink' is not an attribute or a colour"),
        (MINIMAL + "[marks]\npinned = 'on'", "mine.toml:6: marks.pinned: a colour is missing"),
        (MINIMAL + "[marks]\npinned = 'on bold'", "mine.toml:6: marks.pinned: 'bold' is not a colour"),
        (MINIMAL + "[marks]\npinned = 'not'", "mine.toml:6: marks.pinned: an attribute is missing"),
        (MINIMAL + "[marks]\npinned = 'not #fff'", "mine.toml:6: marks.pinned: '#fff' is not an attribute"),
        (MINIMAL + "[marks]\npinned = 'on #fff on #000'", "mine.toml:6: marks.pinned: two grounds in"),
        (MINIMAL + "[marks]\npinned = '#fff #000'", "mine.toml:6: marks.pinned: two colours in"),
        (MINIMAL + "[marks]\npinned = ['bold']", "mine.toml:6: marks.pinned: must be text such as"),
        ("colors = 3\n[entropy]\nramp = ['#fff', '#000']", "mine.toml:1: colors is a section: write ["),
        ("marks = []\n" + MINIMAL, "mine.toml:1: marks is a section"),
        ("[colors\n", "mine.toml:1: not TOML: "),
        ("a = 1\na = 2\n", "mine.toml:2: not TOML: "),
        ("", "mine.toml: colors.primary is missing"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_by_name_and_line_and_the_file_skipped(folder: Path, source: str, expected: str) -> None:
    assert any(said.startswith(expected) for said in wrong(folder, source)), wrong(folder, source)


def test_all_mistakes_of_a_file_are_reported_from_top_to_bottom(folder: Path) -> None:
    source = "dark = 3\n[colors]\nprimary = 3\naccent = 4\n[entropy]\nramp = 5"
    lines = [said.split(":")[1] for said in wrong(folder, source)]
    assert lines == ["1", "3", "4", "6"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# \xe9\nname = 'caf\xe9'\n", "mine.toml:1: not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "mine.toml: too large: more than 64 KiB"),
        (b"a = " + b"[" * 20_000, "mine.toml: cannot be read as TOML: a value is too long or too deeply nested"),
        (b"a = " + b"1" * 20_000, "mine.toml: cannot be read as TOML: a value is too long or too deeply nested"),
        (b"\x00\x01\x02", "mine.toml:1: not TOML"),
    ],
)
def test_bytes_that_are_no_theme_are_reported(folder: Path, data: bytes, said: str) -> None:
    assert wrong(folder, data)[0].startswith(said)


def test_what_is_no_file_is_reported_and_waits_for_nothing(folder: Path) -> None:
    (folder / "a.toml").mkdir()
    os.mkfifo(folder / "b.toml")
    (folder / "c.toml").symlink_to(folder / "c.toml")
    (folder / "d.toml").symlink_to(folder / "gone")
    (folder / "e.toml").symlink_to("/dev/zero")
    themes, problems = load_themes([folder])
    assert themes == {}
    said = [str(problem).replace(f"{folder}/", "") for problem in problems]
    assert said[:2] == ["a.toml: a folder, not a file", "b.toml: not a regular file"]
    assert [line.partition(":")[2][:15] for line in said[2:]] == [" cannot be read"] * 2 + [" not a regular "]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_reported(folder: Path) -> None:
    (folder / "mine.toml").write_text(MINIMAL)
    (folder / "mine.toml").chmod(0)
    assert "cannot be read" in str(load_themes([folder])[1][0])


def test_other_files_are_left_alone(folder: Path) -> None:
    for name in ("readme.md", ".hidden.toml", "mine.toml~", "mine.toml.swp"):
        (folder / name).write_text("not a theme")
    assert load_themes([folder, folder / "missing"]) == ({}, [])


def test_a_message_cannot_carry_escape_sequences(folder: Path) -> None:
    (folder / "a\x1b[2J\n.toml").write_text(MINIMAL.replace("#f00", "\\u001b]0;x\\u0007"))
    (folder / "b.toml").write_text('"\\u001b[2J" = 1\n')
    said = "".join(map(str, load_themes([folder])[1]))
    assert said and "\x1b" not in said and "\n" not in said


def test_the_persons_theme_wins_over_the_shipped_one_of_its_name() -> None:
    own = paths.config_dir() / "themes"
    own.mkdir()
    (own / "zz.toml").write_text('name = "midnight"\n' + MINIMAL)
    (own / "mine.toml").write_text(MINIMAL)
    themes, problems = load_themes(theme_folders())
    assert problems == []
    assert themes["midnight"].source == own / "zz.toml"
    assert themes.keys() == SHIPPED.keys() | {"mine"}
    assert list(themes) == sorted(themes)


def test_a_broken_theme_of_the_person_leaves_the_shipped_one() -> None:
    own = paths.config_dir() / "themes"
    own.mkdir()
    (own / "midnight.toml").write_text("[colors")
    themes, problems = load_themes(theme_folders())
    assert themes == SHIPPED
    assert [problem.source for problem in problems] == [str(own / "midnight.toml")]


def test_two_files_of_one_name_in_a_folder_are_reported(folder: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (folder / name).write_text('name = "same"\n' + MINIMAL)
    themes, problems = load_themes([folder])
    assert themes["same"].source == folder / "a.toml"
    assert [str(problem) for problem in problems] == [f"{folder}/b.toml: skipped: a.toml has the same name, same"]


def test_the_folders_need_not_exist_and_are_not_made(own_folders: Path) -> None:
    assert load_themes(theme_folders())[0] == SHIPPED
    assert list(own_folders.iterdir()) == []


def test_the_stamp_changes_with_every_change_of_a_file(folder: Path) -> None:
    seen = [stamp([folder])]
    file = folder / "mine.toml"
    file.write_text(MINIMAL)
    seen.append(stamp([folder]))
    os.utime(file, ns=(1, 1))
    seen.append(stamp([folder]))
    file.rename(folder / "yours.toml")
    seen.append(stamp([folder]))
    (folder / "yours.toml").unlink()
    (folder / "loop.toml").symlink_to(folder / "loop.toml")
    seen.append(stamp([folder]))
    assert len(set(seen)) == len(seen)
    assert stamp([folder]) == seen[-1]
    assert stamp([folder / "missing"]) == ()


def _values() -> st.SearchStrategy[object]:
    words = st.sampled_from(["bold", "on", "not", "#fff", "#7aa2f7", "red", "default", "ansi_red", "dim", "", "none"])
    leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(words).map(" ".join))
    return st.one_of(leaf, st.lists(leaf, max_size=10), st.dictionaries(st.text(max_size=8), leaf, max_size=3))


def _toml(value: object) -> str:
    match value:
        case None:
            return "1979-05-27T07:32:00Z"
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case str():
            safe = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return '"' + "".join(f"\\U{ord(c):08x}" for c in safe) + '"'
    return str(value)


KEYS = st.sampled_from(
    ["name", "dark", "other", "colors", "entropy", "marks", "colors.primary", "colors.accent", "entropy.ramp",
     "marks.pinned", "marks.accepted", "marks.selection", "marks.cursor", "a.b.c"]
)  # fmt: skip


@given(st.dictionaries(KEYS, _values(), max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_value_stops_the_program(folder: Path, given: dict[str, object]) -> None:
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in given.items())
    (folder / "mine.toml").write_text(lines, encoding="utf-8")
    themes, problems = load_themes([folder])
    assert bool(themes) is not bool(problems)
    for theme in themes.values():
        theme.textual()
        assert [theme.look().style(0.7, flags) for flags in STATES]


@given(st.one_of(st.binary(), st.text(alphabet="[]\"'=.\n #{}colrspimay7f").map(str.encode)))
@example(b"[colors]\n'' = 1\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_stops_the_program(folder: Path, data: bytes) -> None:
    (folder / "mine.toml").write_bytes(data)
    load_themes([folder])


@given(st.integers(0, 700), st.integers(0, 3), st.text(max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_slip_in_a_good_file_stops_the_program(folder: Path, at: int, gone: int, typed: str) -> None:
    source = (paths.shipped_dir("themes") / "midnight.toml").read_text(encoding="utf-8")
    (folder / "mine.toml").write_bytes((source[:at] + typed + source[at + gone :]).encode("utf-8", "replace"))
    themes, problems = load_themes([folder])
    assert bool(themes) is not bool(problems)


# In Textual


class Tokens(Widget):
    """A line with one token per state, drawn like the canvas."""

    theme_of_tokens = PLAIN
    color = True

    def render_line(self, y: int) -> Strip:
        from rich.segment import Segment

        look = self.theme_of_tokens.look(color=self.color)
        return Strip([Segment("word ", look.style(0.7, flags)) for flags in STATES]).apply_style(self.rich_style)


class Gallery(App[None]):
    """One widget per variable, and the widgets of Textual that are used."""

    CSS = "\n".join(
        ["Tokens { background: $canvas-ground; border: round $canvas-border; height: 3; }",
         *(f".{name} {{ color: ${name}; background: $surface; height: 1; }}" for name in VARIABLES),
         ".more { background: $surface-active; color: $foreground-disabled; border: tall $border-blurred; }"]
    )  # fmt: skip

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLES)

    def compose(self) -> ComposeResult:
        yield Tokens(id="tokens")
        for name in VARIABLES:
            yield Input("text", classes=name, compact=True)
        yield Input("text", classes="more")
        yield OptionList("one", "two")
        yield Markdown("# one\n## two\n[link](x)\n\n> quote\n\n`code`")
        yield TextArea("text")
        yield Footer()


def segments(app: Gallery) -> Iterator[Style]:
    """All styles on the screen, as the driver gets them."""
    for widget in app.screen.walk_children(Widget):
        if widget.size:
            for strip in widget.render_lines(Region.from_offset((0, 0), Size(*widget.outer_size))):
                yield from (segment.style for segment in strip if segment.style is not None)


async def test_every_theme_paints_every_variable_and_can_be_changed_while_running() -> None:
    app = Gallery()
    async with app.run_test(size=(80, 60)) as pilot:
        for theme in SHIPPED.values():
            app.register_theme(theme.textual())
        for name in ["textual-dark", *SHIPPED, "midnight"]:
            app.theme = name
            await pilot.pause()
            await pilot.pause()
            assert app.theme == name
            tokens = app.query_one("#tokens")
            if name in SHIPPED and not SHIPPED[name].ansi:
                assert tokens.styles.background.hex.lower() == SHIPPED[name].ground
            assert app.native_ansi_color is (name == "terminal")


async def test_the_terminal_theme_sends_named_colours_only() -> None:
    app = Gallery()
    async with app.run_test(size=(80, 60)) as pilot:
        app.register_theme(SHIPPED["terminal"].textual())
        app.query_one(Tokens).theme_of_tokens = SHIPPED["terminal"]
        app.theme = "terminal"
        await pilot.pause()
        await pilot.pause()
        colors = [color for style in segments(app) for color in (style.color, style.bgcolor) if color is not None]
        assert colors and all(color.triplet is None for color in colors)
        assert any(style.dim for style in segments(app))


async def test_without_colour_the_marks_still_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Gallery(ansi_color=True)
    async with app.run_test(size=(80, 60)) as pilot:
        for theme in SHIPPED.values():
            app.register_theme(theme.textual())
        for name in ("terminal", "midnight"):
            app.query_one(Tokens).theme_of_tokens = SHIPPED[name]
            app.query_one(Tokens).color = False
            app.theme = name
            await pilot.pause()
            await pilot.pause()
            styles = list(segments(app))
            colors = {color.name for style in styles for color in (style.color, style.bgcolor) if color is not None}
            assert colors == {"default"}
            strip = app.query_one(Tokens).render_lines(Region(0, 1, 60, 1))[0]
            drawn = [visible(segment.style)[2:] for segment in strip if segment.style and "word" in segment.text]
            assert len(set(drawn)) == len(STATES)


def test_themes_need_no_textual_until_a_screen_does() -> None:
    import subprocess
    import sys

    code = "import sys, dgtui.tui.theme_file, dgtui.tui.keymap; assert not {'textual', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_files_say_no_more_than_is_read() -> None:
    for theme in SHIPPED.values():
        assert theme.source is not None
        source = theme.source.read_text(encoding="utf-8")
        assert set(tomllib.loads(source)) == {"name", "dark", "colors", "entropy", "marks"}
        if theme.ansi:
            assert not re.search(r"#[0-9a-f]{3}", source)
            assert set(theme.colors.values()) <= set(ANSI)


@pytest.mark.parametrize("theme", sorted(SHIPPED))
def test_a_map_shows_only_what_is_uncertain(theme: str) -> None:
    look = SHIPPED[theme].look()
    assert look.heat(0.0) is None
    assert look.heat(3.0) == look.ramp(3.0)
