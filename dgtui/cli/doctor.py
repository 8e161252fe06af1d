"""`dgtui doctor`: reports what works here, what does not, and what to do. Changes nothing and downloads nothing.

A check is "ok", "warn" (something is limited) or "fail" (the default model cannot run). Any "fail" sets exit code 1.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dgtui import paths
from dgtui.cli import options
from dgtui.cli.doctor_terminal import Check, Mark, terminal
from dgtui.cli.terminal import is_terminal, loading, put, size
from dgtui.errors import DgtuiError
from dgtui.text import sanitize

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.mistakes import Problem

PACKAGES: Final = ("torch", "transformers", "safetensors", "tokenizers", "textual", "bitsandbytes")
_NEEDED: Final = ("torch", "transformers", "safetensors", "tokenizers")
_SIGNS: Final = {"ok": "✓", "warn": "!", "fail": "✗"}
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
    server: options.Server = None,
    model: options.Model = None,
) -> int:
    """Check terminal, packages, GPU, memory and model, and give advice."""
    found = list(checks({"model.server": server, "model.name": model}))
    works = all(check.mark != "fail" for check in found)
    if as_json:
        put(json.dumps({"ok": works, "checks": [asdict(check) for check in found]}, indent=2) + "\n")
    else:
        for check in found:
            _show(check)
        put("\n" + ("the default model can run\n" if works else "the default model cannot run\n"))
    return 0 if works else 1


def checks(flags: Mapping[str, object]) -> Iterator[Check]:
    """All checks, in the order in which they are shown."""
    yield _python()
    yield from _packages()
    yield from terminal()
    yield from _guarded("GPU", _gpu)
    yield from _kernels()
    yield from _guarded("stepper", _stepper)
    yield from _guarded("memory", _memory)
    from dgtui import config
    from dgtui.tui import keymap

    settings, problems = config.load(binding_ids=keymap.ids(), flags=flags)
    yield from _config(problems)
    yield from _keys(settings)
    yield from _themes(settings)
    if settings.model.server:
        yield from _guarded("server", lambda: _server(settings))
    else:
        yield from _guarded("model", lambda: _model(settings))
        yield from _checksums(settings)
    yield from _folders()
    yield from _guarded("hub cache", _hub_cache)


def _guarded(name: str, look: Callable[[], Check]) -> Iterator[Check]:
    """Runs a check. A missing or broken package becomes a finding, not a traceback."""
    try:
        yield look()
    except (ImportError, OSError) as error:
        yield Check(name, "fail", f"cannot be checked: {error}", "install dgtui again: pip install --upgrade dgtui")


def _python() -> Check:
    return Check("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Check]:
    from importlib import metadata

    wanted = _wanted()
    for name in PACKAGES:
        optional = name not in _NEEDED
        specifier = wanted.get(name)
        target = f"'{name}{specifier or ''}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "bitsandbytes":
                yield Check(name, "ok", "not installed; it is optional, for 4-bit weights on a GPU")
            else:
                yield Check(name, "warn" if optional else "fail", "not installed", f"pip install {target}")
            continue
        if specifier is not None and not specifier.contains(version, prereleases=True):
            found = f"{version}, but dgtui needs {specifier}"
            yield Check(name, "warn" if optional else "fail", found, f"pip install {target}")
        else:
            yield Check(name, "ok", version)


def _wanted() -> dict[str, Any]:
    """Package → the versions that dgtui requires; empty if dgtui is not installed as a package."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in metadata.requires("dgtui") or ()]
    except metadata.PackageNotFoundError:
        return {}
    extras = ("", "cuda")
    return {
        requirement.name: requirement.specifier
        for requirement in declared
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
    }


def _gpu() -> Check:
    import torch

    from dgtui.model import devices

    if torch.cuda.is_available():
        if wrong := devices.trouble(torch.device("cuda", 0)):
            found = f"{torch.cuda.get_device_name()}, but PyTorch {torch.__version__} cannot use it: {wrong}"
            return Check(
                "GPU", "warn", found,
                "close other programs that use it, or install a PyTorch build with kernels for it; until then, "
                "--device auto uses the CPU",
            )  # fmt: skip
        free, total = torch.cuda.mem_get_info()
        return Check("GPU", "ok", f"{torch.cuda.get_device_name()}, {size(free)} of {size(total)} free")
    if torch.backends.mps.is_available():
        return Check("GPU", "ok", "Apple GPU (mps), which shares main memory")
    if Path("/proc/driver/nvidia/version").exists():
        return Check(
            "GPU", "warn", f"there is an NVIDIA driver, but PyTorch {torch.__version__} finds no GPU",
            "install a PyTorch build for CUDA that the driver supports",
        )  # fmt: skip
    return Check("GPU", "ok", "none, only the CPU, which is enough for the embedded model")


def _kernels() -> Iterator[Check]:
    """What packs and unpacks 4-bit weights, if there is a GPU."""
    try:
        import torch

        if not torch.cuda.is_available():
            return
        from dgtui.model import bnb

        native = bnb.native("cuda")
    except (ImportError, OSError):  # already reported
        return
    if native:
        yield Check("4-bit kernels", "ok", "bitsandbytes")
    else:
        yield Check(
            "4-bit kernels", "warn", "PyTorch's own operations: bitsandbytes is not installed, or does not run here",
            "pip install --upgrade 'dgtui[cuda]'; run python -m bitsandbytes to see what is wrong",
        )  # fmt: skip


def _stepper() -> Check:
    """The stepper that would run a model here, and why not a faster one. Kernels are tested when a model is loaded."""
    import torch

    from dgtui.inference import choice
    from dgtui.model import devices

    device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if torch.cuda.is_available() and not devices.trouble(torch.device("cuda", 0)):
        device = torch.device("cuda", 0)
    name, why = choice.expected(device)
    found = {
        "triton": "triton: dgtui's own forward and kernels, tested when a model is loaded",
        "grouped": "grouped: dgtui's own forward, experts are unpacked layer by layer",
        "cpu": "cpu: dgtui's own forward on the CPU",
        "reference": "reference: transformers' own class",
    }[name]
    if why:
        return Check(
            "stepper", "warn", f"{found}; {why}", "fix the cause, because a step takes several times longer this way"
        )
    if name == "cpu" and choice.multiplies_bf16():
        found += f'; this CPU also multiplies in bfloat16: set model.stepper to "{choice.BF16}"'
    return Check("stepper", "ok", found)


def _memory() -> Check:
    import psutil

    from dgtui.model.memory_limit import memory_limit

    memory, limit = psutil.virtual_memory(), memory_limit()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free, said = memory.available, f"{size(memory.available)} of {size(memory.total)} available"
    if limit is not None and limit.free < free:
        free = limit.free
        said = (
            f"{size(free)} available of {size(limit.bytes)} that this process may use ({size(memory.total)} in total)"
        )
    found = f"{said}, {cores} cores"
    if free < 1e9:
        return Check("memory", "warn", found, "close other programs that use memory, or raise the container's limit")
    return Check("memory", "ok", found)


def _config(problems: "list[Problem]") -> Iterator[Check]:
    file = paths.config_file()
    for problem in problems:
        yield Check("config", "warn", str(problem), f"correct it in {problem.source}")
    if not problems:
        yield Check(
            "config",
            "ok",
            str(file) if file.exists() else f"{file} does not exist: all settings have their default values",
        )


def _keys(settings: "Settings") -> Iterator[Check]:
    from dgtui.tui import keymap

    for problem in keymap.check(settings.keys.bindings)[1]:
        yield Check("keys", "warn", problem, "correct it in the keys section; run dgtui keys to see the keys")


def _themes(settings: "Settings") -> Iterator[Check]:
    from dgtui.tui.theme_file import load_themes, theme_folders

    try:
        themes, problems = load_themes(theme_folders())
    except DgtuiError as error:
        yield Check("themes", "warn", error.message, error.hint)
        return
    for problem in problems:
        yield Check("themes", "warn", str(problem), "correct it, or remove the file")
    if settings.screen.theme not in themes:
        found = f"screen.theme is {settings.screen.theme}, but there is no such theme"
        yield Check("themes", "warn", found, "run dgtui themes to see the themes")


def _model(settings: "Settings") -> Check:
    """Whether `generate` could load its model: checks everything but the weights themselves."""
    from dgtui.cli.model import describe, number
    from dgtui.model.selection import select

    try:
        found = describe(select(settings.model.name), settings)
    except DgtuiError as error:
        hint = error.hint or "run dgtui model list to see the available models"
        return Check("model", "fail", error.message, hint)
    shown, memory = f"{found['name']}, {number(found['parameters'])} parameters", found["memory"]
    if found["tokenizer"]["problem"]:
        return Check("model", "fail", f"{shown}: {found['tokenizer']['problem']}", "download the checkpoint again")
    if not memory["fits"]:
        return Check("model", "fail", f"{shown}: {memory['problem']}", memory["advice"])
    held = f", {memory['reason']}" if memory["reason"] else ""
    return Check("model", "ok", f"{shown}, needs {size(memory['total_bytes'])} on {memory['device']}{held}")


def _checksums(settings: "Settings") -> Iterator[Check]:
    """Whether the 4-bit folders that a load would read are unchanged since they were written."""
    try:
        from dgtui.model import catalog, quantized
        from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint
        from dgtui.model.selection import select

        chosen = select(settings.model.name)
        selected = chosen.checkpoint if isinstance(chosen, OpenCheckpoint) else chosen
        folders = [(selected.name, selected)]
        folders += [
            (copy.name, catalog.Checkpoint(copy.name, copy.path, "folder"))
            for copy in catalog.copies()
            if copy.of == selected.name
        ]
        if (solver := catalog.solver_of(selected)) is not None:
            folders.append((solver.name, solver))
    except (DgtuiError, ImportError, OSError):  # reported by the model check
        return
    for name, checkpoint in folders:
        try:
            opened = open_checkpoint(checkpoint)
        except DgtuiError:  # reported by the model check
            continue
        if opened.quant_method != quantized.METHOD:
            continue
        try:
            with loading(name, "checking") as progress:
                quantized.verify(opened, progress)
            yield Check("checksums", "ok", f"{name} is unchanged")
        except DgtuiError as error:
            mark: Mark = "fail" if checkpoint is selected else "warn"
            yield Check("checksums", mark, f"{name}: {error.message}", error.hint)


FOR_CHAT = "chat and generate can use it; edit and infill need a DiffusionGemma served by vLLM"


def _server(settings: "Settings") -> Check:
    """Whether `generate` could use the configured server: a few small requests, without sampling."""
    try:
        found = options.served(settings, text=True)
    except DgtuiError as error:
        return Check("server", "fail", error.message, error.hint)
    if found.fixed:
        return Check("server", "warn", f"{found.name}, {found.held}", "; ".join(found.notes) or FOR_CHAT)
    info, insecure = found.info, [text for text in found.notes if "unencrypted" in text]
    shown = (
        f"{found.name}, {found.held}, canvas of {info.canvas_length}, {found.served.vocab_size:,} ids, context of "
        f"{info.max_context:,}"
    )
    return Check("server", "warn" if insecure else "ok", shown, "; ".join(insecure))


def _folders() -> Iterator[Check]:
    import tempfile

    for name, folder in (
        ("config folder", paths.config_dir),
        ("data folder", paths.data_dir),
        ("cache folder", paths.cache_dir),
        ("state folder", paths.state_dir),
    ):
        try:
            place = folder()
        except DgtuiError as error:
            yield Check(name, "warn", error.message, error.hint)
            continue
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            yield Check(name, "warn", f"{place} cannot be written: {error.strerror or error}", "make it writable")
        else:
            yield Check(name, "ok", str(place))


def _hub_cache() -> Check:
    from dgtui.model import catalog

    cache = catalog.hub_cache()
    here = [checkpoint.name for checkpoint in catalog.listing() if checkpoint.source == "hub"]
    if catalog.REAL in here:
        return Check("hub cache", "ok", f"{cache}: {', '.join(here)}")
    how = "it does not hold the published checkpoint (run dgtui model pull to download it)"
    return Check("hub cache", "ok", f"{cache}: {how}")


def _show(check: Check) -> None:
    """Prints a sign and a word, which can be read and searched without colour, and the advice below them."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    unicode = encoding.lower().replace("-", "") == "utf8"
    sign = f"{_SIGNS[check.mark]} " if unicode else ""
    mark = f"{sign}{check.mark:<4}"
    if is_terminal(sys.stdout) and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR"):
        mark = typer.style(mark, fg=_COLOURS[check.mark])
    found, advice = (sanitize(text, newlines=False, tabs="replace") for text in (check.found, check.advice))
    put(f"{mark}  {check.name:<13}  {found}\n")
    if advice and check.mark != "ok":
        put(f"{' ' * (len(sign) + 4)}  {'':<13}  {'→' if unicode else '->'} {advice}\n")
