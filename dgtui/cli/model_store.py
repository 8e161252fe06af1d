"""`dgtui model list`, `pull`, `quantize` and `remove`: lists, downloads, packs and deletes checkpoints.

`pull` is the only one that uses the network.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from dgtui.cli import options
from dgtui.cli.model_choice import fit, show_choices
from dgtui.cli.terminal import columns, is_terminal, loading, note, put, redrawable, size, working
from dgtui.errors import CorruptCheckpoint, DgtuiError, Interrupted, ModelNotFound, UsageError
from dgtui.paths import typed_path

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.model.catalog import Checkpoint, Nf4Copy
    from dgtui.model.hub import Download

T = TypeVar("T")

_REDRAW: Final = 0.25
"""Seconds between two updates of a download's progress."""
_MEMORY: Final = 40
"""Number of updates that the rate is averaged over: ten seconds."""


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """List the checkpoints on this machine."""
    from dgtui.cli.model import number
    from dgtui.model import catalog

    default = _default(options.merged({}))
    checkpoints = catalog.listing()
    if default is not None and default not in checkpoints:  # e.g. a folder from the settings
        checkpoints.append(default)
    rows = [_entry(checkpoint, checkpoint == default) for checkpoint in checkpoints]
    rows += [_copy_entry(copy) for copy in catalog.copies()]
    if as_json:
        put(json.dumps({"models": rows}, indent=2) + "\n")
        return 0
    table = [("", "NAME", "PARAMETERS", "DTYPE", "SIZE", "WHERE")]
    for row in rows:
        mark = "!" if row["problem"] else "*" if row["default"] else ""
        parameters = "-" if row["parameters"] is None else number(row["parameters"])
        table.append((mark, row["name"], parameters, row["dtype"] or "-", size(row["disk_bytes"]), row["path"]))
    put("\n".join(columns(table, right=(2, 4))) + "\n")
    for row in rows:
        _explain(row)
    if all(row["name"] != catalog.REAL for row in rows):
        note(f"the published checkpoint (51.6 GB) is not here; to download it: dgtui model pull {catalog.REAL}")
    return 0


def pull(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A hub id, owner/name.", show_default="the published checkpoint"),
    ] = None,
    revision: Annotated[str, typer.Option(metavar="REV", help="Branch, tag or commit.")] = "main",
    tokenizer_only: Annotated[
        bool, typer.Option("--tokenizer-only", help="Download only the small files that a model on a server needs.")
    ] = False,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Which GGUF file, if the repository holds several.")
    ] = None,
    choices: Annotated[
        bool,
        typer.Option("--choices", help="Show the published checkpoints and which one suits this machine."),
    ] = False,
) -> int:
    """Download a checkpoint from the hub, or the missing rest of it."""
    from dgtui.model import catalog

    if choices:
        show_choices()
        return 0
    name = catalog.REAL if name is None else name
    here = catalog.cached(name) if tokenizer_only and revision == "main" else None
    if here is not None and (here.path / "tokenizer.json").is_file():
        note(f"the tokenizer of {name} is already here")
        put(f"{here.path}\n")
        return 0
    if name == catalog.EMBEDDED:
        raise UsageError("the embedded model ships with the program: there is nothing to download")
    with working(f"asking the hub for {name}"):
        from dgtui.model import hub

        download = _aside(lambda: hub.look(name, revision, file, tokenizer_only=tokenizer_only))
        hub.require_space(download)
    if not tokenizer_only:
        note(f"{name}: {size(download.total)} on disk; {fit(download)}")
    begun = download.here()
    if 0 < begun < download.total:
        note(f"{size(begun)} of {size(download.total)} are already downloaded")
    try:
        path = _fetch(download)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {size(download.here())} of {size(download.total)} are downloaded and kept",
            hint=f"run {_command(download)} to continue, or dgtui model remove {name} to delete them",
        ) from None
    note(f"{name}: {'already here' if begun == download.total else 'downloaded'} and complete, {size(download.total)}")
    if tokenizer_only:
        note(f"to use it: dgtui chat --server URL --model {name}")
        put(f"{path}\n")
        return 0
    known = path.is_dir() and catalog.resolve(name).path == path
    note(f"to use it: dgtui chat --model {name if known else path} (other commands take the same --model)")
    put(f"{path}\n")
    return 0


def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A name from `dgtui model list`, or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="DST", parser=typed_path, help="The folder to create.")],
    double: Annotated[
        bool, typer.Option("--double-quant", help="Store the scales in 8 bit too, which saves 8%.")
    ] = False,
    vision: Annotated[bool, typer.Option("--keep-vision/--no-vision", help="Keep the vision tower.")] = True,
    device: options.Device = None,
) -> int:
    """Write a 4-bit (NF4) copy of a checkpoint to a folder."""
    from dgtui.model import catalog

    checkpoint = catalog.resolve(source)
    wanted = options.merged({"model.device": device}).model.device
    with loading(checkpoint.name, "quantizing") as progress:
        from dgtui.model import quantized
        from dgtui.model.open_checkpoint import open_checkpoint

        opened = open_checkpoint(checkpoint)
        quantized.quantize(opened, target, double=double, vision=vision, device=wanted, progress=progress)
    before, after = catalog.disk_size(checkpoint.path), catalog.disk_size(target)
    note(f"{size(before)} became {size(after)}; to use it: dgtui chat --model {target}")
    put(f"{target}\n")
    return 0


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `dgtui model list`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    with_copies: Annotated[
        bool | None,
        typer.Option(
            "--copies/--no-copies", help="Also delete its 4-bit copies.", show_default="ask; with --yes, keep them"
        ),
    ] = None,
) -> int:
    """Delete a checkpoint or a 4-bit copy from the caches, after asking."""
    from dgtui.model import catalog, removal

    copies = catalog.copies()
    alone = [copy for copy in copies if name in (copy.name, str(copy.path))]
    own = alone or [copy for copy in copies if copy.of == name]
    folder = None if alone else _hub_folder(name, or_copies=bool(own))
    if not yes and not (is_terminal(sys.stdin) and redrawable()):
        raise UsageError("deleting needs a confirmation, and there is no terminal to ask on", hint="confirm with --yes")
    sure = True if yes else None
    too = sure if folder is None else with_copies if with_copies is not None or not yes else False
    gone = []
    if folder is not None and _deleted(name, folder, sure, lambda: removal.remove_checkpoint(name)):
        gone.append(name)
    for copy in own if folder is None or gone else ():
        if _deleted(copy.name, copy.path, too, partial(removal.remove_copy, copy)):
            gone.append(copy.name)
        else:
            note(f"the NF4 copy of {copy.of or copy.name} stays; to delete it: dgtui model remove {copy.name}")
    if not gone:
        note("nothing was deleted")
    return 0 if gone else 1


def _deleted(name: str, folder: Path, sure: bool | None, delete: Callable[[], None]) -> bool:
    """Deletes it if `sure`, or asks if `sure` is None. Returns whether it was deleted."""
    from dgtui.model import catalog
    from dgtui.text import sanitize

    taken = size(catalog.disk_size(folder))
    if sure is None:
        sure = typer.confirm(sanitize(f"Delete {name}, {taken} in {folder}?", newlines=False), err=True)
    if sure:
        delete()
        put(f"deleted {sanitize(name, newlines=False)}: {taken}\n")
    return sure


def _default(settings: "Settings") -> "Checkpoint | None":
    """The checkpoint that `generate` would use; None, after a note with the reason, if there is none."""
    from dgtui.model.open_checkpoint import OpenCheckpoint
    from dgtui.model.selection import select

    try:
        selected = select(settings.model.name)
        return selected.checkpoint if isinstance(selected, OpenCheckpoint) else selected
    except DgtuiError as error:
        note(f"dgtui: {error.message}")
        return None


def _entry(checkpoint: "Checkpoint", default: bool) -> dict[str, Any]:
    from dgtui.model import catalog
    from dgtui.model.open_checkpoint import open_checkpoint

    in_hub = checkpoint.source == "hub"
    entry: dict[str, Any] = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "source": checkpoint.source,
        "of": None,
        "default": default,
        "parameters": None,
        "dtype": None,
        "size_bytes": None,
        "disk_bytes": catalog.disk_size(catalog.hub_folder(checkpoint.name) if in_hub else checkpoint.path),
        "left_over_bytes": catalog.left_over(checkpoint.name) if in_hub else 0,
        "unfinished": catalog.unfinished(checkpoint),
        "problem": None,
    }
    try:
        opened = open_checkpoint(checkpoint)
    except DgtuiError as error:
        return entry | {"problem": error.message}
    return entry | {"parameters": opened.parameters, "dtype": opened.dtype, "size_bytes": opened.size}


def _copy_entry(copy: "Nf4Copy") -> dict[str, Any]:
    from dgtui.model import catalog

    return {
        "name": copy.name,
        "path": str(copy.path),
        "source": "nf4",
        "of": copy.of,
        "default": False,
        "parameters": None,
        "dtype": "NF4",
        "size_bytes": None,
        "disk_bytes": catalog.disk_size(copy.path),
        "left_over_bytes": 0,
        "unfinished": copy.of is None,
        "problem": "the copy is incomplete" if copy.of is None else None,
    }


def _explain(row: dict[str, Any]) -> None:
    """Prints notes that do not fit into the table, with advice."""
    name = row["name"]
    if row["default"]:
        note(f"* marks the default of dgtui generate: {name}")
    if row["source"] == "nf4":
        whose = f"the NF4 copy of {row['of']}" if row["of"] else row["problem"]
        note(f"{'' if row['of'] else '! '}{name}: {whose}; to delete it: dgtui model remove {name}")
    elif row["problem"] and row["source"] == "hub":
        what = "the download is not finished" if row["unfinished"] else row["problem"]
        note(f"! {name}: {what}; run dgtui model pull {name} to continue, or dgtui model remove {name} to delete it")
    elif row["problem"]:
        note(f"! {name}: {row['problem']}")
    elif row["left_over_bytes"]:
        part = size(row["left_over_bytes"])
        note(f"{name}: {part} are from an unfinished download of another version; dgtui model pull {name} continues it")


def _fetch(download: "Download") -> Path:
    """Downloads on another thread, and shows progress on a terminal by measuring the files."""
    from dgtui.model import hub

    stage = ["starting"]
    seen = deque([(time.monotonic(), download.here())], maxlen=_MEMORY)
    with working(f"downloading {download.name}") as say:

        def tell() -> None:
            seen.append((time.monotonic(), download.here()))
            say(_progress(stage[0], seen[0], seen[-1], download.total))

        return _aside(
            lambda: hub.fetch(download, lambda text: stage.__setitem__(0, text)), tell if redrawable() else None
        )


def _progress(stage: str, old: tuple[float, int], new: tuple[float, int], total: int) -> str:
    """One line: "downloading model.safetensors: 12.31 of 51.60 GB, 85 MB/s, 8 min left"."""
    done = f"{new[1] / 1e9:.2f} of {total / 1e9:.2f} GB" if total >= 1e9 else f"{size(new[1])} of {size(total)}"
    line = f"{stage}: {done}"
    rate = (new[1] - old[1]) / max(1e-9, new[0] - old[0])
    if rate < 1e3 or not stage.startswith("downloading"):
        return line
    left = (total - new[1]) / rate
    unit = f"{left / 3600:.1f} h" if left >= 3600 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"{line}, {size(int(rate))}/s, {unit} left"


def _aside(work: Callable[[], T], meanwhile: Callable[[], None] | None = None) -> T:
    """Runs `work` on a daemon thread and returns its result.

    So Ctrl+C ends it at once, even while the system is waiting for a name server.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised again for the caller
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    while not wait([future], timeout=_REDRAW).done:
        if meanwhile is not None:
            meanwhile()
    return future.result()


def _command(download: "Download") -> str:
    revision = "" if download.revision == "main" else f" --revision {download.revision}"
    return f"dgtui model pull {download.name}{revision}{' --tokenizer-only' if download.tokenizer_only else ''}"


def _hub_folder(name: str, *, or_copies: bool) -> Path | None:
    """The folder of a checkpoint in the hub cache; None if only copies of it are here. Raises for everything else."""
    from dgtui.model import catalog
    from dgtui.model.shards import shown

    if name == catalog.EMBEDDED:
        raise UsageError("the embedded model is part of the program and cannot be removed")
    if catalog.HUB_ID.fullmatch(name):
        folder = catalog.hub_folder(name)
        if folder.exists() or folder.is_symlink():
            _refuse_others(name)
            return folder
    if or_copies:
        return None
    if os.path.lexists(name):
        raise UsageError(
            f"{shown(name)} is your own folder: dgtui deletes only from its caches",
            hint="run dgtui model list to see the names",
        )
    raise ModelNotFound(f"there is no model {shown(name)}", hint="run dgtui model list to see the available models")


def _refuse_others(name: str) -> None:
    """Raises for models of other programs. An unidentifiable folder, after a broken download, may be deleted."""
    from dgtui.model import catalog
    from dgtui.model.shards import read_json

    cached = catalog.cached(name)
    try:
        if cached is None or read_json(cached.path / "config.json").get("model_type") == catalog.MODEL_TYPE:
            return
    except CorruptCheckpoint:
        return
    raise UsageError(
        f"{name} is not a DiffusionGemma, so dgtui does not delete it", hint=f"use hf cache rm model/{name}"
    )
