"""Syntax highlighting: the colours of a language, the same for the same text after any edits."""

import random
from pathlib import Path

import pytest
from pygments.lexers import get_lexer_for_filename
from pygments.token import Token

from dgtui.tui.colour import AA, contrast
from dgtui.tui.syntax import Syntax, styles
from dgtui.tui.theme import PLAIN, Theme
from dgtui.tui.theme_file import load_themes

HERE = Path(__file__)
README = HERE.parents[2] / "README.md"
LONG = 1000.0
THEMES = list(load_themes([HERE.parents[2] / "themes"])[0].values())


def read(name: str, text: str) -> Syntax:
    syntax = Syntax(Path(name))
    syntax.change(text, 0)
    assert syntax.reach(text.count("\n"), LONG)
    return syntax


def drawn(name: str, text: str) -> list[list[tuple[str, str]]]:
    """Text and kind of the spans of each line."""
    syntax = read(name, text)
    return [[(line[a:b], kind) for a, b, kind in syntax.spans(n)] for n, line in enumerate(text.split("\n"))]


def test_markdown_has_headings_emphasis_and_code() -> None:
    lines = drawn("a.md", "# Head\n\nsome **strong** and *soft* `code`\n\n```python\ndef f(): pass\n```\n")
    assert lines[0] == [("# Head", "heading")]
    assert (
        ("**strong**", "strong") in lines[2] and ("*soft*", "emphasis") in lines[2] and ("`code`", "code") in lines[2]
    )
    assert ("def", "keyword") in lines[5] and ("f", "name") in lines[5]


def test_what_goes_over_many_lines_is_one_thing() -> None:
    text = 'x = """\n' + "if a\n" * 300 + '"""\nif y: pass  # z\n'
    lines = drawn("a.py", text)
    assert all(line == [("if a", "string")] for line in lines[1:301])
    assert lines[302][0] == ("if", "keyword") and lines[302][-1] == ("# z", "comment")


@pytest.mark.parametrize("name", ["a.unknown", "a.txt", "README"])
def test_a_file_of_no_known_language_has_no_colours(name: str) -> None:
    syntax = read(name, "if x\n")
    assert not syntax.is_known
    assert not syntax.spans(0)


def test_a_text_over_the_limit_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgtui.tui.syntax.LIMIT", 10)
    assert not read("a.py", "if x: pass # and so on\n").spans(0)


@pytest.mark.parametrize(
    "name", ["a.py", "a.md", "a.js", "a.c", "a.html", "a.toml", "a.rs", "a.sh", "a.yaml", "a.json"]
)
def test_no_text_is_lost_or_moved(name: str) -> None:
    text = HERE.read_text() + README.read_text()[:3000]
    syntax = read(name, text)
    for number, line in enumerate(text.split("\n")):
        ends = [0]
        for start, end, _ in syntax.spans(number):
            assert ends[-1] <= start < end <= len(line)
            ends.append(end)


@pytest.mark.parametrize(("name", "text"), [("a.py", HERE.read_text()), ("a.md", README.read_text())])
def test_the_rules_are_applied_as_pygments_applies_them(name: str, text: str) -> None:
    plain = [offset for offset, token, _ in get_lexer_for_filename(name).get_tokens_unprocessed(text)
             if token in Token.Keyword or token in Token.Comment or token in Token.Generic.Heading]  # fmt: skip
    syntax = read(name, text)
    starts, at = set(), 0
    for number, line in enumerate(text.split("\n")):
        starts |= {at + start for start, _, kind in syntax.spans(number)}
        at += len(line) + 1
    assert set(plain) <= starts


@pytest.mark.parametrize(("name", "text"), [("a.py", HERE.read_text()), ("a.md", README.read_text()), ("a.json", "{}")])
def test_after_an_edit_the_colours_are_those_of_the_new_text(name: str, text: str) -> None:
    chance = random.Random(5)
    syntax = read(name, text)
    for _ in range(12):
        lines = text.split("\n")
        line = chance.randrange(len(lines))
        lines[line : line + chance.randrange(3)] = [chance.choice(["x = 1  # y", "# z", "*a* `b`", "", "def f():"])]
        text = "\n".join(lines)
        syntax.change(text, max(0, line - 1))
        fresh = read(name, text)
        for sight in sorted({chance.randrange(len(lines)), len(lines) - 1}):
            assert syntax.reach(sight, LONG)
            assert syntax.spans(sight) == fresh.spans(sight)
    assert [syntax.spans(n) for n in range(len(lines))] == [fresh.spans(n) for n in range(len(lines))]


def test_what_takes_long_goes_on_in_the_next_moment() -> None:
    text = "x = [1, 2, 3]\n" * 2000
    syntax = Syntax(Path("a.py"))
    syntax.change(text, 0)
    assert not syntax.reach(1999, 0)
    assert syntax.spans(0) and not syntax.spans(1999)
    moments = 1
    while not syntax.reach(1999, 0.001):
        moments += 1
    assert moments > 1 and syntax.spans(1999) == syntax.spans(0)


@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
@pytest.mark.parametrize("colours", ["truecolor", "256"])
def test_every_colour_can_be_read_on_the_grounds_of_the_theme(theme: Theme, colours: str) -> None:
    theme = theme.for_terminal(colours)
    for style in styles(theme.look()).values():
        if style.color and not theme.ansi:
            for ground in (theme.ground, theme.selection, theme.pinned):
                assert contrast(style.color.name, ground) >= AA


def test_without_colours_there_are_attributes() -> None:
    for look in (None, PLAIN.look(color=False)):
        assert all(style.color is None for style in styles(look).values())
        assert styles(look)["heading"].bold and styles(look)["comment"].italic
