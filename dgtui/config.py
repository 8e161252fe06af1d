"""Settings: one typed, frozen object, merged from three layers.

Options on the command line override the environment (`DGTUI_<SECTION>_<KEY>`), which overrides `config.toml`, which
overrides the defaults. A mistake in the file or the environment never stops the program: the next lower value is used,
and a `Problem` says what is wrong and where. A mistake in an option is wrong usage and raises.
"""

import dataclasses
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import InvalidSettings
from dgtui.mistakes import Problem, TomlError, closest, closest_dotted, did_you_mean, line_of, read_toml
from dgtui.paths import config_file
from dgtui.rules import DEVICE, KEYS, NAME, PATH, SERVER_MODE, SIZE, SWITCH, Rule, one_of, whole


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`[model]`: which checkpoint, and how it is loaded."""

    name: str | None = field(default=None, metadata={"rule": NAME})
    """A name from the catalog, a hub id, or a folder. None: the real checkpoint if it is on this machine and fits, else
    the embedded one. Also `DGTUI_MODEL`."""
    adapter: str | None = field(default=None, metadata={"rule": NAME})
    """The folder of a LoRA adapter that is added to the model."""
    server: str | None = field(default=None, metadata={"rule": NAME})
    """The address of a server that runs the model instead. None: it runs on this machine."""
    server_mode: str = field(default="auto", metadata={"rule": SERVER_MODE})
    """"steps": one request per denoising step, which can be steered; "blocks": the server samples whole canvases;
    "chat": any OpenAI-compatible server, text only. "auto": blocks for `generate`, steps for all other commands, and
    chat if the server takes no canvas."""
    device: str = field(default="auto", metadata={"rule": DEVICE})
    """Where it runs. "auto": the first GPU, else the CPU."""
    context: int | None = field(default=None, metadata={"rule": whole(1)})
    """Most tokens of prompt and reply together. None: as many as the checkpoint allows and memory holds."""
    gpu_memory: int | None = field(default=None, metadata={"rule": SIZE})
    """Most bytes of GPU memory to use. None: all that is free."""
    vision: bool | None = field(default=None, metadata={"rule": SWITCH})
    """Keep the vision tower, for images. None: if it fits."""
    stepper: str = field(
        default="auto", metadata={"rule": one_of("auto", "triton", "grouped", "cpu-bf16", "cpu", "reference")}
    )
    """What runs the model. "auto": the fastest that works here. "cpu-bf16": products in bfloat16, if the CPU has them.
    "reference": transformers' own class, whose tokens are those of its `generate`."""
    keep_quantized: bool = field(default=True, metadata={"rule": SWITCH})
    """Keep the packed copy that the first load of a checkpoint makes, in the cache folder."""


@dataclass(frozen=True, slots=True)
class SamplerSection:
    """`[sampler]`: how a block is denoised. The keys are those of `diffusion.settings.SAMPLER`, and `think`."""

    chosen: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Field of `SamplerSettings` → value. The checkpoint's generation_config decides what is missing."""
    max_tokens: int | None = field(default=None, metadata={"rule": whole(1)})
    """Most tokens of a reply. None: 256 in `generate`, 2,048 in chat."""
    think: bool | None = field(default=None, metadata={"rule": SWITCH})
    """Let the model think before it answers. None: the chat template's default."""


@dataclass(frozen=True, slots=True)
class ScreenSettings:
    """`[screen]`: looks and motion."""

    theme: str = field(default="midnight", metadata={"rule": NAME})
    """The name of a theme; `dgtui themes` lists them."""
    max_fps: int = field(default=30, metadata={"rule": whole(1, 120)})
    """Most frames per second."""
    pace: int = field(default=0, metadata={"rule": whole(0, 5000)})
    """Least milliseconds to show each denoising step, while the model keeps running. 0: live."""
    reduced_motion: bool = field(default=False, metadata={"rule": SWITCH})
    """Repaint once per block instead of once per step."""
    mouse: bool = field(default=True, metadata={"rule": SWITCH})
    """Use the mouse. Without it the terminal's own selection works."""
    show_timeline: bool = field(default=True, metadata={"rule": SWITCH})
    """Show the bars of mean entropy under the canvas."""


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """`[history]`: stored conversations."""

    enabled: bool = field(default=True, metadata={"rule": SWITCH})
    """Store conversations."""
    path: Path | None = field(default=None, metadata={"rule": PATH})
    """The database file. None: in the data folder."""


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """`[keys]`: your own keys for bindings."""

    bindings: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Binding id → its keys. All other bindings keep their default keys."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, one field per section."""

    model: ModelSettings = ModelSettings()
    """Which checkpoint, and how it is loaded."""
    sampler: SamplerSection = SamplerSection()
    """How a block is denoised."""
    screen: ScreenSettings = ScreenSettings()
    """Looks and motion."""
    history: HistorySettings = HistorySettings()
    """Stored conversations."""
    keys: KeysSettings = KeysSettings()
    """Your own keys for bindings."""


_SAMPLER: Final = {spec.key: spec.name for spec in SAMPLER}
RULES: Final[Mapping[str, Rule]] = {
    f"sampler.{spec.key}": Rule(spec.expects, spec.read, spec.kind) for spec in SAMPLER
} | {
    f"{section.name}.{setting.name}": setting.metadata["rule"]
    for section in dataclasses.fields(Settings)
    for setting in dataclasses.fields(section.default)  # type: ignore[arg-type]  # every default is a section object
    if "rule" in setting.metadata
}
"""Dotted name → how its value is read. The names in `keys.*` are not fixed and not listed here."""

_SECTIONS: Final = tuple(section.name for section in dataclasses.fields(Settings))
KEY_VARIABLE: Final = "DGTUI_SERVER_KEY"
"""The environment variable with the server's key. It is not a setting: it is never stored in a file or shown."""
_VARIABLES: Final = ("DGTUI_MODEL", *(f"DGTUI_{name.replace('.', '_').upper()}" for name in RULES))
_MOST_BYTES: Final = 1 << 20
"""Larger files are rejected."""


def load(
    path: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    binding_ids: Collection[str] | None = None,
) -> tuple[Settings, list[Problem]]:
    """Merges file, environment and options.

    Args:
        path: The settings file; by default that of the user. It may be missing.
        env: The environment; by default that of the process. An empty variable counts as unset.
        flags: Dotted name ("sampler.max_steps") → value of an option; None: not given.
        binding_ids: The ids that `[keys]` may name; None: any.

    Returns:
        The settings, and the mistakes in file and environment.

    Raises:
        InvalidSettings: An option is unknown, out of range, or contradicts the rest.
    """
    path = config_file() if path is None else path
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for layer in (
        _read_file(path, binding_ids, problems),
        _read_environment(os.environ if env is None else env, binding_ids, problems),
    ):
        values.update(layer)
        _drop_contradictions(values, layer, problems)
    return _build(_with_flags(values, flags or {})), problems


@dataclass(frozen=True, slots=True)
class _Given:
    """A valid value and its source."""

    value: object
    source: str
    line: int | None = None


def _read_file(path: Path, binding_ids: Collection[str] | None, problems: list[Problem]) -> dict[str, _Given]:
    try:
        source, table = read_toml(path, _MOST_BYTES)
    except TomlError as error:
        if not error.is_missing:
            problems.append(Problem(f"{error.message}; the file is not used", str(path), error.line))
        return {}

    taken: dict[str, _Given] = {}
    for name, value in _flatten(table):
        line_number = line_of(name, source)
        problem = _unknown(name, binding_ids)
        if problem is None:
            try:
                taken[name] = _Given(_rule(name).read(value), str(path), line_number)
                continue
            except ValueError:
                problem = f"{name} must be {_rule(name).expects}; not used", None
        problems.append(Problem(problem[0], str(path), line_number, problem[1]))
    return taken


def _read_environment(
    env: Mapping[str, str], binding_ids: Collection[str] | None, problems: list[Problem]
) -> dict[str, _Given]:
    taken: dict[str, _Given] = {}
    # DGTUI_MODEL is the documented name, so it comes last and wins over DGTUI_MODEL_NAME.
    for variable in sorted(env, key=lambda name: (name == "DGTUI_MODEL", name)):
        text = env[variable]
        name = _name_of_variable(variable, binding_ids)
        if not text:
            continue
        if name is None:  # ignored: other programs may use the same prefix
            ours = variable.startswith("DGTUI_") and variable != KEY_VARIABLE
            if ours and (near := closest(variable, _VARIABLES, cutoff=0.85)):
                problems.append(Problem("unknown setting; not used", variable, suggestion=near))
            continue
        problem = _unknown(name, binding_ids)
        if problem is not None:
            suggestion = problem[1] and "DGTUI_" + re.sub(r"\W", "_", problem[1]).upper()
            problems.append(Problem("unknown setting; not used", variable, suggestion=suggestion))
            continue
        rule = _rule(name)
        try:
            taken[name] = _Given(rule.read(rule.from_text(text)), variable)
        except ValueError:
            problems.append(Problem(f"must be {rule.expects}; not used", variable))
    return taken


def _name_of_variable(variable: str, binding_ids: Collection[str] | None) -> str | None:
    """The dotted name that a variable sets, or None if it is not a setting."""
    if variable == "DGTUI_MODEL":
        return "model.name"
    match = re.fullmatch(rf"DGTUI_({'|'.join(_SECTIONS).upper()})_([A-Z0-9_]+)", variable)
    if match is None:
        return None
    section, key = match[1].lower(), match[2].lower()
    if section != "keys":
        return f"{section}.{key}"
    for binding in binding_ids or ():
        if re.sub(r"\W", "_", binding).lower() == key:
            return f"keys.{binding}"
    return f"keys.{key.replace('_', '.', 1)}"


def _with_flags(values: dict[str, _Given], flags: Mapping[str, object]) -> dict[str, _Given]:
    values = dict(values)
    for name, value in flags.items():
        if value is None:
            continue
        if name not in RULES:
            raise InvalidSettings(f"there is no setting {name}", hint=did_you_mean(closest_dotted(name, RULES)))
        try:
            values[name] = _Given(RULES[name].read(value), "option")
        except ValueError:
            raise InvalidSettings(f"{name} must be {RULES[name].expects}, not {value!r}") from None
    if (wrong := _contradiction(values)) is not None:
        raise InvalidSettings(wrong, hint="--t-max must be at least --t-min")
    return values


def _drop_contradictions(values: dict[str, _Given], layer: Mapping[str, _Given], problems: list[Problem]) -> None:
    """Drops both temperatures if the newest layer made them contradict each other."""
    if (wrong := _contradiction(values)) is None:
        return
    culprit = layer.get("sampler.t_max") or layer["sampler.t_min"]
    del values["sampler.t_min"], values["sampler.t_max"]
    problems.append(Problem(f"{wrong}; neither is used", culprit.source, culprit.line))


def _contradiction(values: Mapping[str, _Given]) -> str | None:
    low, high = values.get("sampler.t_min"), values.get("sampler.t_max")
    if low is None or high is None or high.value >= low.value:  # type: ignore[operator]  # floats by their rule
        return None
    return f"sampler.t_max ({high.value}) must be at least sampler.t_min ({low.value})"


def _build(values: Mapping[str, _Given]) -> Settings:
    sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for name, given in values.items():
        section, key = name.split(".", 1)
        sections[section][key] = given.value
    sampler = sections["sampler"]
    chosen = {_SAMPLER[key]: sampler.pop(key) for key in [*sampler] if key in _SAMPLER}
    return Settings(
        ModelSettings(**sections["model"]),
        SamplerSection(MappingProxyType(chosen), **sampler),
        ScreenSettings(**sections["screen"]),
        HistorySettings(**sections["history"]),
        KeysSettings(MappingProxyType(sections["keys"])),
    )


def _rule(name: str) -> Rule:
    return RULES.get(name, KEYS)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values. In `[keys]`, `canvas.pin = "p"` without quotes is a table and means the same."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and (not prefix or name.startswith("keys.")):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _unknown(name: str, binding_ids: Collection[str] | None) -> tuple[str, str | None] | None:
    """A message and the nearest valid name, or None if the name is valid."""
    section, _, key = name.partition(".")
    if section == "keys" and key:
        if binding_ids is None or key in binding_ids:
            return None
        return f"unknown binding {key}; not used", closest_dotted(key, binding_ids)
    if name in RULES:
        return None
    if name in _SECTIONS:
        return f"{name} is a section: write [{name}]; not used", None
    if section not in _SECTIONS and key and (near := closest(section, _SECTIONS)):
        return f"unknown section {section}; {name} is not used", f"{near}.{key}" if f"{near}.{key}" in RULES else near
    return f"unknown setting {name}; not used", closest_dotted(name, RULES)
