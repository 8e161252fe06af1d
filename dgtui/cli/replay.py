"""`dgtui replay`: a recorded run on the screen, or in a file that others can look at. Needs no model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dgtui.cli.screen import load_settings, need_terminal, show
from dgtui.cli.terminal import note
from dgtui.errors import UsageError
from dgtui.mistakes import closest, did_you_mean

if TYPE_CHECKING:
    from dgtui.tui.film.course import Course
    from dgtui.tui.theme import Theme

KINDS: Final = (".svg", ".html", ".cast")
WIDTH: Final = 100
STILLS: Final = 5
MOST_STEPS: Final = 2000
"""A film of more leaves steps out."""


def command(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="What --record, or w in the canvas, wrote.")],
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a picture (.svg), a page (.html) or an asciinema film (.cast)."),
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Begin at this step; of an .svg, the only one.")
    ] = None,
    stills: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=100, help=f"Steps in an .svg, spread evenly ({STILLS}).")
    ] = None,
    candidate: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Which one, of a run with several canvases at once.")
    ] = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", min=20, max=400, help=f"Columns of an exported text ({WIDTH}).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Export to a file that is there already.")] = False,
) -> int:
    """Play a recorded run: scrub it, look into it, or export it."""
    _check(recording, export, step, stills, width, force)

    from dgtui.session.recording import load

    made = load(recording)

    from dgtui.tui.film.course import Course

    if candidate is not None and candidate > made.log.job.candidates:
        raise UsageError(f"--candidate is {candidate}: the run has {made.log.job.candidates}")
    course = Course(made, None if candidate is None else candidate - 1)
    if step is not None and step > len(course):
        raise UsageError(f"--step is {step}: the recording has {len(course)} steps")
    first = (step or 1) - 1
    if export is None:
        return _show(course, recording, theme, first)
    _export(course, export, _theme(theme), width or WIDTH, [first] if step else course.chosen(stills or STILLS), first,
            force)  # fmt: skip
    return 0


def _check(
    recording: Path, export: Path | None, step: int | None, stills: int | None, width: int | None, force: bool
) -> None:
    """Raises `UsageError` for options that do not go together."""
    if export is None:
        given = [name for name, is_set in (("--stills", stills), ("--width", width), ("--force", force)) if is_set]
        if given:
            raise UsageError(f"{given[0]} is for --export", hint="name a file to write")
        return
    kind = export.suffix.lower()
    if kind not in KINDS:
        raise UsageError(f"{export} is no kind of export", hint=f"end its name in {', '.join(KINDS)}")
    if stills and (step or kind != ".svg"):
        raise UsageError("--stills is for an .svg, and without --step")
    if step and kind == ".cast":
        raise UsageError("--step is for the screen, an .svg or an .html")
    if not export.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {export.parent} to export to")
    if export.resolve() == recording.resolve():
        raise UsageError(f"{export} is the recording itself", hint="choose another name")


def _show(course: "Course", recording: Path, theme: str | None, first: int) -> int:
    need_terminal("--export FILE.html writes a page instead")
    settings, problems = load_settings({"screen.theme": theme})
    from dgtui.tui.screens.replay import ReplayApp
    from dgtui.tui.theme_file import theme_folders

    return show(
        lambda: ReplayApp(
            course, settings, recording.name, theme_folders=theme_folders(), first=first, problems=problems
        ),
        settings,
    )


def _theme(name: str | None) -> "Theme":
    """The theme of that name; without one the person's own choice, or the default where there is none of that name."""
    from dgtui import config
    from dgtui.tui.theme_file import load_themes, theme_folders

    settings, problems = config.load(flags={"screen.theme": name})
    themes, broken = load_themes(theme_folders())
    for problem in (*problems, *broken):
        note(f"dgtui: {problem}")
    wanted = settings.screen.theme
    if name is None and wanted not in themes:
        usual = config.ScreenSettings().theme
        note(f"dgtui: there is no theme {wanted}: {usual} is used")
        wanted = usual
    if wanted in themes:
        return themes[wanted]
    hint = did_you_mean(closest(wanted, themes), "`dgtui themes` lists them")
    raise UsageError(f"there is no theme {wanted}", hint=hint)


def _export(
    course: "Course", path: Path, theme: "Theme", width: int, stills: list[int], first: int, force: bool
) -> None:
    from dgtui.session.export import FileExists, write
    from dgtui.tui.film.still import Studio

    studio = Studio(course, theme, width)
    if path.suffix.lower() == ".svg":
        from dgtui.tui.film import svg

        text = svg.picture(studio, stills)
    else:
        steps = course.chosen(MOST_STEPS)
        if len(steps) < len(course):
            note(f"{len(course):,} steps are too many for a film: {len(steps):,} of them, spread evenly, are in it")
        if path.suffix.lower() == ".html":
            from dgtui.tui.film import web

            text = web.page(studio, steps, first)
        else:
            from dgtui.tui.film import cast

            text = cast.film(studio, steps)
    try:
        write(path, text, overwrite=force)
    except FileExists as there:
        raise FileExists(there.message, hint="--force writes over it") from None
    note(f"{path}: {len(text.encode()):,} bytes")
