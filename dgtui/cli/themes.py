"""`dgtui themes`: lists the themes, where each comes from, and theme files with mistakes."""

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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the themes: name, kind, a sample of the entropy ramp, and the file. The current one is marked with *."""
    from dgtui import config
    from dgtui.tui.colour import AA
    from dgtui.tui.theme_file import load_themes, theme_folders

    settings, mistakes = config.load()
    folders = theme_folders()
    themes, problems = load_themes(folders)
    chosen = settings.screen.theme
    if as_json:
        described = [_described(theme, theme.name == chosen) for theme in themes.values()]
        wrong = [{"file": p.source, "line": p.line, "message": p.message} for p in problems]
        put(json.dumps({"themes": described, "problems": wrong}, indent=2) + "\n")
    else:
        _show(themes, chosen, folders[0])
        note(f"put your own themes into {folders[1]}")
    for problem in (*mistakes, *problems):
        note(str(problem))
    for theme in themes.values():
        worst = theme.worst_contrast() if theme.source and theme.source.parent != folders[0] else None
        if worst is not None and worst < AA:
            note(f"{theme.source}: the lowest text contrast is {worst:.1f}; readable text needs {AA}")
    if chosen not in themes:
        note(f"screen.theme is {chosen!r}, but there is no such theme")
    return 0


def _show(themes: "Mapping[str, Theme]", chosen: str, shipped: "Path") -> None:
    rows = [["*" if theme.name == chosen else " ", theme.name, _kind(theme)] for theme in themes.values()]
    origins = [_origin(theme, shipped) for theme in themes.values()]
    console = _color_console()
    if console is None:
        for line in columns([[*row, origin] for row, origin in zip(rows, origins, strict=True)]):
            put(f"{line}\n")
        return
    left = columns([[*row, ""] for row in rows])
    width = max(map(len, left)) + 2
    for line, origin, theme in zip(left, origins, themes.values(), strict=True):
        with console.capture() as drawn:
            console.print(_sample(theme.for_terminal(console.color_system)), end="")
        put(f"{line.ljust(width)}{drawn.get()}  {sanitize(origin, newlines=False, tabs='replace')}\n")


def _sample(theme: "Theme") -> "Text":
    """A text from settled to undecided, and a pinned word."""
    from rich.style import Style
    from rich.text import Text

    from dgtui.diffusion.events import Flag

    look = theme.look()
    sample = Text(style=Style(bgcolor=theme.ground))
    for at, letter in enumerate(_SAMPLE):
        sample.append(letter, look.style(3 * (at / len(_SAMPLE)) ** 2, 0))
    return sample.append(_PINNED, look.style(0.0, Flag.PINNED))


def _color_console() -> "Console | None":
    """A console on stdout, if that is a terminal with colours."""
    if not is_terminal(sys.stdout) or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("dumb", ""):
        return None
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    return console if console.color_system else None


def _kind(theme: "Theme") -> str:
    return "terminal" if theme.ansi else "dark" if theme.dark else "light"


def _origin(theme: "Theme", shipped: "Path") -> str:
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
