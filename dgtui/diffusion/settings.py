"""The sampler's settings: one table for the config file, options, chat commands, help and documentation."""

import math
import sys
from dataclasses import dataclass, field, fields
from typing import Any, Final


class BadJob(ValueError):
    """A job or one of its settings is invalid. The message says what would be valid."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How one setting appears to the user: names, help, unit and range."""

    name: str
    "the field of `SamplerSettings`"
    kind: type[int] | type[float]
    help: str
    "in lower case, without a full stop"
    unit: str
    least: int | None
    "the smallest value; None: any number above 0"
    key: str
    "in the section [sampler] of config.toml"
    command: str
    "in chat, without the slash"

    @property
    def option(self) -> str:
        """On the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def expects(self) -> str:
        """Completes the sentence "it must be …"."""
        return "a number above 0" if self.least is None else f"a whole number, {self.least} or more"

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{value} {self.unit}".strip()

    def read(self, value: Any) -> float:
        """The value in the setting's type. Raises `ValueError` if it is invalid."""
        # `type`, because True is an int to isinstance. The upper bound rejects infinity and whole numbers that no
        # float can hold; NaN fails every comparison.
        if self.least is None:
            fits = type(value) in (int, float) and 0 < value <= sys.float_info.max
        else:
            fits = type(value) is int and value >= self.least
        if not fits:
            raise ValueError(f"{self.name} is {'infinite' if value == math.inf else value}: it must be {self.expects}")
        return self.kind(value)


def _setting(
    default: float, help: str, unit: str = "", *, least: int | None = None, key: str = "", command: str = ""
) -> Any:
    spec = {"kind": type(default), "help": help, "unit": unit, "least": least, "key": key, "command": command}
    return field(default=default, metadata={"spec": spec})


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How a block is denoised. The defaults are those of the published checkpoint. Raises `BadJob`."""

    steps: int = _setting(
        48,
        "maximum denoising steps per block; also the length of the schedule",
        "steps",
        least=1,
        key="max_steps",
    )
    t_min: float = _setting(0.4, "temperature of the last step", command="tmin")
    t_max: float = _setting(0.8, "temperature of the first step", command="tmax")
    entropy_bound: float = _setting(0.1, "summed entropy that is accepted per step, in nats", "nats", command="bound")
    stability: int = _setting(
        1, "steps without a change before a block may end; -1: never end early", "steps", least=-1
    )
    confidence: float = _setting(0.005, "mean entropy below which a block may end, in nats", "nats")
    proofread: int = _setting(0, "unlikely passages per block that are written again", least=0)
    top_k: int = 8
    "alternatives per position in a frame; not a user's setting"

    def __post_init__(self) -> None:
        for spec in SAMPLER:
            try:
                spec.read(getattr(self, spec.name))
            except ValueError as error:
                raise BadJob(str(error)) from None
        if self.t_max < self.t_min:
            raise BadJob(f"t_max is {self.t_max}: it must be at least t_min ({self.t_min})")
        if self.top_k < 1:
            raise BadJob(f"top_k is {self.top_k}: it must be 1 or more")


def _spec(name: str, spec: dict[str, Any]) -> Spec:
    return Spec(**{**spec, "name": name, "key": spec["key"] or name, "command": spec["command"] or name})


SAMPLER: Final = tuple(_spec(f.name, f.metadata["spec"]) for f in fields(SamplerSettings) if "spec" in f.metadata)
"""The settings that a user can change, in the order in which they are shown."""
