"""The options that commands share, and the settings that result from them, the environment and the config file."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dgtui.cli.terminal import loading, note
from dgtui.diffusion.settings import SAMPLER, Spec
from dgtui.errors import UsageError
from dgtui.paths import typed_path

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.diffusion.job import SamplerSettings
    from dgtui.model.loader import LoadedModel
    from dgtui.model.parts import LoadOptions
    from dgtui.server.served import Mode, ServedModel
    from dgtui.worker import Worker

_SAMPLER, _MODEL = "Sampler", "Model"

Seed = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Random seed. The same seed and settings give the same tokens.")
]
Image = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", parser=typed_path, help="Show the model an image. Repeat for more images."),
]
Record = Annotated[
    Path | None, typer.Option(metavar="FILE", parser=typed_path, help="Save the last run as a recording.")
]


def _option(panel: str, *names: str, metavar: str | None = None, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel)


def _sampler_option(spec: Spec) -> Any:
    help = f"{spec.help[0].upper()}{spec.help[1:]}."
    shown = (spec.unit or "number").upper()
    return Annotated[spec.kind | None, _option(_SAMPLER, spec.option, metavar=shown, help=help)]


Model = Annotated[
    str | None,
    _option(_MODEL, "--model", "-m", metavar="NAME", help="A name from `dgtui model list`, a hub id, or a folder."),
]
Adapter = Annotated[str | None, _option(_MODEL, metavar="DIR", help="Add a LoRA adapter from `dgtui train --lora`.")]
Server = Annotated[
    str | None, _option(_MODEL, metavar="URL", help="Use the model on this server instead of a local one.")
]
ServerMode = Annotated[
    str | None,
    _option(
        _MODEL, metavar="MODE", help="steps: every step can be steered; blocks: faster; chat: text only. Default: auto."
    ),
]
Device = Annotated[str | None, _option(_MODEL, metavar="NAME", help="auto, cpu, mps, cuda, cuda:1 …")]
Context = Annotated[
    int | None, _option(_MODEL, metavar="TOKENS", help="Context length: tokens of prompt and reply together.")
]
GpuMemory = Annotated[str | None, _option(_MODEL, metavar="SIZE", help="Maximum device memory to use, such as 12GB.")]
Vision = Annotated[
    bool | None, _option(_MODEL, "--vision/--no-vision", help="Load the vision tower, which images need.")
]
Keep = Annotated[
    bool | None,
    _option(_MODEL, "--keep/--no-keep", help="Keep the 4-bit copy that the first load of a checkpoint makes."),
]
Think = Annotated[bool | None, _option(_SAMPLER, "--think/--no-think", help="Let the model think before it answers.")]

_SHARED: Final[dict[str, tuple[str, Any]]] = {
    "model": ("model.name", Model),
    "adapter": ("model.adapter", Adapter),
    "server": ("model.server", Server),
    "server_mode": ("model.server_mode", ServerMode),
    "device": ("model.device", Device),
    "context": ("model.context", Context),
    "gpu_memory": ("model.gpu_memory", GpuMemory),
    "vision": ("model.vision", Vision),
    "keep": ("model.keep_quantized", Keep),
    **{spec.name: (f"sampler.{spec.key}", _sampler_option(spec)) for spec in SAMPLER},
    "think": ("sampler.think", Think),
}
"""Option → its setting and type."""


def with_settings(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the model and sampler options to a command, which receives them as `flags`: setting → value or None."""
    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, (_, kind) in _SHARED.items()
    ]
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "flags"]

    @wraps(command)
    def taking(**given: Any) -> int:
        flags = {setting: given.pop(name, None) for name, (setting, _) in _SHARED.items()}
        return command(**given, flags=flags)

    taking.__signature__ = own.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    taking.__annotations__ = {p.name: p.annotation for p in [*kept, *added]} | {"return": int}
    del taking.__wrapped__
    return taking


def with_vision(flags: dict[str, object], images: list[Path] | None) -> dict[str, object]:
    """The flags of a command with images: images turn the vision tower on, unless an option is given."""
    return flags | {"model.vision": True} if images and flags["model.vision"] is None else flags


def merged(flags: dict[str, object]) -> "Settings":
    """The settings from config file, environment and options. Mistakes in the first two are reported on stderr."""
    from dgtui import config

    settings, problems = config.load(flags=flags)
    for problem in problems:
        note(f"dgtui: {problem}")
    return settings


def new_seed() -> int:
    """A seed that is short enough to read aloud."""
    import secrets

    return secrets.randbelow(1_000_000)


def sampler_settings(settings: "Settings", checkpoint: "SamplerSettings") -> "SamplerSettings":
    """The user's settings, and the checkpoint's own for the rest. Raises `BadJob` if they contradict each other."""
    return replace(checkpoint, **settings.sampler.chosen)


def load_options(settings: "Settings") -> "LoadOptions":
    """How the user wants a model to be loaded."""
    from dgtui import paths
    from dgtui.model.parts import LoadOptions

    own = settings.model
    return LoadOptions(
        device=own.device,
        context=own.context,
        vision=own.vision,
        memory=own.gpu_memory,
        adapter=paths.typed_path(own.adapter) if own.adapter is not None else None,
        cache=paths.cache_path() if own.keep_quantized else None,
    )


def new_worker(settings: "Settings", exact: bool = False) -> "Worker":
    """A worker that runs models as `model.stepper` says, or alone on the reference, for exact equality with
    transformers."""
    from dgtui.worker import Worker, best_stepper

    return Worker(partial(best_stepper, wanted="reference" if exact else settings.model.stepper, alone=exact))


def load(
    worker: "Worker", settings: "Settings", mode: "Mode" = "steps", *, text: bool = False
) -> "LoadedModel | ServedModel":  # fmt: skip
    """Loads the requested model or the default. On a terminal, a line shows the progress.

    `mode` and `text` are those of `served`.
    """
    loaded: LoadedModel | ServedModel
    if settings.model.server:
        loaded = served(settings, mode=mode, text=text)
        worker.connect(loaded.stepper).result()
    else:
        from dgtui.model.selection import select

        checkpoint = select(settings.model.name)
        with loading(checkpoint.name) as progress:
            loaded = worker.load(checkpoint, load_options(settings), progress=progress).result()
    for said in loaded.notes:
        note(f"{loaded.name}: {said}")
    return loaded


def served(
    settings: "Settings", name: str | None = None, *, mode: "Mode" = "steps", text: bool = False
) -> "ServedModel":  # fmt: skip
    """The model on the configured server. Raises `DgtuiError`.

    Args:
        name: The model's name; None: the configured one.
        mode: Used if the settings say "auto".
        text: The caller accepts a server that only sends text.
    """
    from dgtui.model.offline import go_offline
    from dgtui.server.served import connect

    go_offline()
    assert settings.model.server, "the caller checks this"
    chosen: Any = settings.model.server_mode
    if chosen == "chat" and not text:
        raise UsageError("this command needs a canvas", hint="use --server-mode chat only with chat and generate")
    return connect(
        settings.model.server, mode if chosen == "auto" else chosen, name or settings.model.name,
        otherwise_chat=text and chosen == "auto", most_tokens=settings.sampler.max_tokens,
    )  # fmt: skip
