"""`dgtui themes`: the looks there are, where each comes from, and which files in the themes folders are none."""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dgtui.cli.terminal import columns, is_terminal, note, put
from dgtui.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text

    from dgtui.tui.theme import Theme

_SAMPLE: Final = " settled likely wavering noise "
_PINNED: Final = " pinned "


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> int:
    """List the themes: name, kind, a sample of the entropy ramp, and the file. The chosen one is marked with *."""
    from dgtui import config
    from dgtui.tui.colour import AA
    from dgtui.tui.theme_file import load_themes, theme_folders

    settings, mistakes = config.load()
    folders = theme_folders()
    themes, problems = load_themes(folders)
    chosen = settings.screen.theme
    if as_json:
        found = [_described(theme, theme.name == chosen) for theme in themes.values()]
        wrong = [{"file": str(p.file), "line": p.line, "message": p.message} for p in problems]
        put(json.dumps({"themes": found, "problems": wrong}, indent=2) + "\n")
    else:
        _show(themes, chosen, folders[0])
        note(f"your own go to {folders[1]}")
    for problem in (*mistakes, *problems):
        note(str(problem))
    for theme in themes.values():
        worst = theme.worst_contrast() if theme.source and theme.source.parent != folders[0] else None
        if worst is not None and worst < AA:
            note(f"{theme.source}: some text has a contrast of {worst:.1f} only; {AA} is needed to read it well")
    if chosen not in themes:
        note(f"screen.theme is {chosen!r}, and there is no theme of that name")
    return 0


def _show(themes: "Mapping[str, Theme]", chosen: str, shipped: "Path") -> None:
    rows = [["*" if theme.name == chosen else " ", theme.name, _kind(theme)] for theme in themes.values()]
    places = [_place(theme, shipped) for theme in themes.values()]
    console = _color_console()
    if console is None:
        for line in columns([[*row, place] for row, place in zip(rows, places, strict=True)]):
            put(f"{line}\n")
        return
    left = columns([[*row, ""] for row in rows])
    width = max(map(len, left)) + 2
    for line, place, theme in zip(left, places, themes.values(), strict=True):
        with console.capture() as drawn:
            console.print(_sample(theme.for_terminal(console.color_system)), end="")
        put(f"{line.ljust(width)}{drawn.get()}  {sanitize(place, newlines=False, tabs='replace')}\n")


def _sample(theme: "Theme") -> "Text":
    """Text that goes from settled to undecided, and a pinned word."""
    from rich.style import Style
    from rich.text import Text

    from dgtui.diffusion.events import Flag

    look = theme.look()
    sample = Text(style=Style(bgcolor=theme.ground))
    for at, letter in enumerate(_SAMPLE):
        sample.append(letter, look.style(3 * (at / len(_SAMPLE)) ** 2, 0))
    return sample.append(_PINNED, look.style(0.0, Flag.PINNED))


def _color_console() -> "Console | None":
    """A console on stdout, if that is a terminal which shows colours."""
    if not is_terminal(sys.stdout) or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("dumb", ""):
        return None
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    return console if console.color_system else None


def _kind(theme: "Theme") -> str:
    return "terminal" if theme.ansi else "dark" if theme.dark else "light"


def _place(theme: "Theme", shipped: "Path") -> str:
    return "shipped" if theme.source is None or theme.source.parent == shipped else str(theme.source)


def _described(theme: "Theme", chosen: bool) -> dict[str, object]:
    contrast = theme.worst_contrast()
    return {
        "name": theme.name,
        "dark": theme.dark,
        "ansi": theme.ansi,
        "file": str(theme.source),
        "chosen": chosen,
        "ramp": list(theme.ramp),
        "contrast": None if contrast is None else round(contrast, 2),
    }
