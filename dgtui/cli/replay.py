"""`dgtui replay`: plays a recorded run on the screen, or exports it. Needs no model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dgtui.cli.screen import load_settings, need_terminal, show
from dgtui.cli.terminal import note
from dgtui.errors import UsageError
from dgtui.mistakes import closest, did_you_mean
from dgtui.paths import typed_path

if TYPE_CHECKING:
    from dgtui.tui.exports.exporter import Exporter
    from dgtui.tui.exports.recorded_run import RecordedRun
    from dgtui.tui.theme import Theme

KINDS: Final = (".svg", ".gif", ".html", ".cast")
WIDTH: Final = 100
STILLS: Final = 5
MOST_ANIMATED: Final = 48
"""Steps in a moving picture; with more, some are left out."""
MOST_STEPS: Final = 2000
"""Steps in a page or a cast; with more, some are left out."""


def command(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDING", parser=typed_path, help="A recording, written by --record or by w on the canvas."
        ),
    ],
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=typed_path,
            help="Write a picture (.svg), a moving picture (.gif), a web page (.html) or an asciinema cast (.cast).",
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Start at this step. An .svg shows only this step.")
    ] = None,
    stills: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=100, help=f"Number of evenly spaced steps in an .svg (default: {STILLS})."
        ),
    ] = None,
    animate: Annotated[bool, typer.Option("--animate", help="Play the steps in the .svg in a loop.")] = False,
    candidate: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Which candidate to show, for a run with several canvases.")
    ] = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="A theme from `dgtui themes`.")] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", min=20, max=400, help=f"Columns of the exported text (default: {WIDTH}).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Play a recorded run: scrub through its steps, look at alternatives, or export it."""
    _check(recording, export, step, stills, width, force, animate)

    from dgtui.session.recording import load

    made = load(recording)

    from dgtui.tui.exports.recorded_run import RecordedRun

    if candidate is not None and candidate > made.log.job.candidates:
        raise UsageError(f"--candidate is {candidate}, but the run has {made.log.job.candidates}")
    recorded = RecordedRun(made, None if candidate is None else candidate - 1)
    if step is not None and step > len(recorded):
        raise UsageError(f"--step is {step}, but the recording has {len(recorded)} steps")
    first = (step or 1) - 1
    if export is None:
        return _show(recorded, recording, theme, first)
    stills_at = None if animate else [first] if step else recorded.chosen(stills or STILLS)
    _export(recorded, export, _theme(theme), width or WIDTH, stills_at, first, force)
    return 0


def _check(
    recording: Path,
    export: Path | None,
    step: int | None,
    stills: int | None,
    width: int | None,
    force: bool,
    animate: bool,
) -> None:
    """Raises `UsageError` for options that cannot be combined."""
    if export is None:
        flags = (("--stills", stills), ("--width", width), ("--force", force), ("--animate", animate))
        given = [name for name, is_set in flags if is_set]
        if given:
            raise UsageError(f"{given[0]} needs --export", hint="add --export FILE")
        return
    kind = export.suffix.lower()
    if kind not in KINDS:
        raise UsageError(f"cannot export to {export}", hint=f"the name must end in {', '.join(KINDS)}")
    if stills and (step or kind != ".svg"):
        raise UsageError("--stills needs an .svg and cannot be combined with --step")
    if animate and (step or stills or kind != ".svg"):
        raise UsageError("--animate needs an .svg and cannot be combined with --step or --stills")
    if step and kind in (".cast", ".gif"):
        raise UsageError("--step works on the screen and with an .svg or an .html")
    if not export.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {export.parent}")
    if export.resolve() == recording.resolve():
        raise UsageError(f"{export} is the recording itself", hint="choose another name")


def _show(recorded: "RecordedRun", recording: Path, theme: str | None, first: int) -> int:
    need_terminal("use --export FILE.html to write a web page instead")
    settings, problems = load_settings({"screen.theme": theme})
    from dgtui.tui.screens.replay import ReplayApp
    from dgtui.tui.theme_file import theme_folders

    return show(
        lambda: ReplayApp(
            recorded, settings, recording.name, theme_folders=theme_folders(), first=first, problems=problems
        ),
        settings,
    )


def _theme(name: str | None) -> "Theme":
    """The named theme; without a name the configured one, or the default if that does not exist."""
    from dgtui import config
    from dgtui.tui.theme_file import load_themes, theme_folders

    settings, problems = config.load(flags={"screen.theme": name})
    themes, broken = load_themes(theme_folders())
    for problem in (*problems, *broken):
        note(f"dgtui: {problem}")
    wanted = settings.screen.theme
    if name is None and wanted not in themes:
        usual = config.ScreenSettings().theme
        note(f"dgtui: there is no theme {wanted}: using {usual}")
        wanted = usual
    if wanted in themes:
        return themes[wanted]
    hint = did_you_mean(closest(wanted, themes), "run dgtui themes to see them")
    raise UsageError(f"there is no theme {wanted}", hint=hint)


def _export(
    recorded: "RecordedRun", path: Path, theme: "Theme", width: int, stills: list[int] | None, first: int, force: bool
) -> None:
    """Writes the export. An .svg is animated if `stills` is None."""
    from dgtui.session.export import FileExists, write_bytes
    from dgtui.tui.exports.exporter import Exporter

    exporter = Exporter(recorded, theme, width)
    kind = path.suffix.lower()
    if kind == ".gif":
        from dgtui.tui.exports import gif

        data = gif.animation(exporter, recorded.chosen(MOST_ANIMATED))
    elif kind == ".svg":
        from dgtui.tui.exports import svg

        steps = recorded.chosen(MOST_ANIMATED)
        data = (svg.picture(exporter, stills) if stills else svg.animation(exporter, steps)).encode()
    else:
        data = _long(exporter, kind, first).encode()
    try:
        write_bytes(path, data, overwrite=force)
    except FileExists as there:
        raise FileExists(there.message, hint="use --force to overwrite it") from None
    note(f"{path}: {len(data):,} bytes")


def _long(exporter: "Exporter", kind: str, first: int) -> str:
    """A page or a cast, which can hold more steps than a picture."""
    recorded = exporter.recorded
    steps = recorded.chosen(MOST_STEPS)
    if len(steps) < len(recorded):
        note(f"{len(recorded):,} steps are too many: the export holds {len(steps):,} evenly spaced ones")
    if kind == ".html":
        from dgtui.tui.exports import web

        return web.page(exporter, steps, first)
    from dgtui.tui.exports import cast

    return cast.document(exporter, steps)
