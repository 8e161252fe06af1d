"""`dgtui demo`: plays a recorded tour. Needs no model."""

from typing import Annotated

import typer

from dgtui.cli.screen import load_settings, need_terminal, show


def command(
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="A theme from `dgtui themes`.")] = None,
) -> int:
    """Watch recorded replies resolve, without a model. Enter plays the next one."""
    need_terminal("`dgtui replay RECORDING --export FILE.html` writes a web page of a recording instead")
    settings, problems = load_settings({"screen.theme": theme})
    from dgtui.tui.screens.tour import TourApp
    from dgtui.tui.theme_file import theme_folders

    return show(lambda: TourApp(settings, theme_folders=theme_folders(), problems=problems), settings)
