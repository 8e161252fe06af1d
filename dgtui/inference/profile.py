"""Times the parts of a step. Each is timed separately, so their sum is slightly more than a whole step."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch

from dgtui.diffusion.job import Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.inference.stepper import DeviceStepper

_LAYER: Final = {
    "attention": ("_qkv", "_attend", "_out"),
    "experts": ("_experts",),
    "dense MLP": ("_mlp_in", "_mlp_out"),
    "router": ("_router",),
}
PARTS: Final = (*_LAYER, "head and sampler", "between", "host")
"""`between`: embedding, self-conditioning, norms, rotary embedding, routes, acceptance. `host`: the copy to the host
and its processing."""


def parts(stepper: DeviceStepper, prompt: Sequence[int], steps: int) -> dict[str, float]:
    """Milliseconds of each of `PARTS` per step, averaged over `steps` after two warm-up steps.

    Captured graphs are not used, because their parts cannot be timed separately.
    """
    stepper.seed(0, 1)
    stepper.encode(prompt)
    stepper.begin([Start()], SamplerSettings(steps=steps + 3, stability=-1))
    spent: defaultdict[str, float] = defaultdict(float)
    device = stepper.denoiser.device

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            began = _now(device)
            result = work(*given)
            spent[name] += _now(device) - began
            return result

        return run

    with ExitStack() as undo, torch.inference_mode():
        for layer in stepper.denoiser.decoder.layers:
            for name, members in _LAYER.items():
                for member in members:
                    _swap(undo, layer, member, timed(name, getattr(layer, member)))
        _swap(undo, stepper, "advance", timed("whole", stepper.advance))
        _swap(undo, stepper, "_head", timed("head and sampler", stepper._head))
        for number in range(steps + 2):
            if number == 2:
                spent.clear()
                began = _now(device)
            stepper.step_eagerly()
        total = _now(device) - began
    whole = spent.pop("whole")
    spent["between"], spent["host"] = whole - sum(spent.values()), total - whole
    return {name: 1000 * spent[name] / steps for name in PARTS}


def _swap(undo: ExitStack, owner: Any, member: str, value: Any) -> None:
    before = getattr(owner, member)
    undo.callback(lambda: vars(owner).pop(member, None) if member == "advance" else setattr(owner, member, before))
    setattr(owner, member, value)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
