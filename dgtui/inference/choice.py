"""Chooses how to run a loaded model: the first of these that works here.

    triton      own forward, Triton's kernels, a captured graph per step                NVIDIA GPUs from sm_80 on
    grouped     own forward, experts unpacked a layer at a time and multiplied at once  NVIDIA GPUs
    cpu-bf16    the same as cpu with products in bfloat16, only if it is asked for      CPUs with AVX512-BF16 or AMX
    cpu         own forward, PyTorch's operations in their cheap forms                  the CPU
    reference   transformers' class under the reference stepper                         everywhere

A way that fails its test or gives wrong results is skipped, and the reason is kept for the user.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import nn
from torch.nn import functional

from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference import graphs
from dgtui.inference.cpu import CPU
from dgtui.inference.denoiser import OwnDenoiser
from dgtui.inference.experts import ExpertsFunction, grouped_experts, sorted_experts
from dgtui.inference.forward import Decoder
from dgtui.inference.graphs import BUCKET, Graphs
from dgtui.inference.packing import Kernels, packed_here
from dgtui.inference.sampling import head_for
from dgtui.inference.stepper import DeviceStepper
from dgtui.kernels import availability, self_test
from dgtui.kernels.ops import TORCH, TRITON, Ops
from dgtui.model.adapter import is_beside
from dgtui.model.denoiser import TransformersDenoiser

if TYPE_CHECKING:
    from dgtui.diffusion.stepper import Stepper
    from dgtui.model.plan import Plan

AUTO: Final = "auto"
BF16: Final = "cpu-bf16"
NAMES: Final = ("triton", "grouped", BF16, "cpu", "reference")
"""The fastest first; the last one always works."""

_GRAPH_SAFE: Final = ((9, 0), (10, 0))
# From this compute capability on, PyTorch's grouped product does not read the group sizes on the host.
_WORST: Final = 1e-2
# Largest relative error of a bf16 product with 4-bit weights that counts as rounding.


class Loaded(Protocol):
    """The parts of `model.loader.LoadedModel` that the choice needs."""

    model: Any
    stop_ids: frozenset[int]
    plan: "Plan"

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights that are not quantized."""

    def slow_down(self, why: str) -> None:
        """Called with the reason when steps no longer run in the fastest way."""


class Unavailable(RuntimeError):
    """A way does not work here; the message gives the reason as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stepper that is ready to run, and why it is not a faster one; empty if there is no faster one."""

    stepper: "Stepper"
    reason: str


def open_stepper(loaded: "Loaded", wanted: str = AUTO) -> Opened:
    """The stepper of a loaded model: the fastest that works, or the wanted one, or the next one if that fails."""
    first = NAMES.index(wanted) if wanted != AUTO else 0
    reasons: list[str] = []
    for name in NAMES[first:]:
        if not suits(name, loaded.device) and name != wanted:
            continue
        try:
            opened = _OPEN[name](loaded)
            return Opened(opened.stepper, "; ".join(filter(None, [*reasons, opened.reason])))
        except Unavailable as error:
            reasons.append(f"{name} is not used: {error}")
    raise AssertionError("the reference always works")


def expected(device: torch.device) -> tuple[str, str]:
    """The way for models on a device, and why not a faster one, as far as it is known without a model."""
    if device.type == "cpu":
        return "cpu", ""
    if device.type != "cuda":
        return "reference", ""
    if (why := availability.unavailable(device)) is None:
        return "triton", graphs.trouble(device)
    reasons = [f"triton is not used: {why}"]
    try:
        check_grouped(device, torch.bfloat16)
    except Unavailable as error:
        return "reference", "; ".join([*reasons, f"grouped is not used: {error}"])
    return "grouped", reasons[0]


def suits(name: str, device: torch.device) -> bool:
    """Whether a way supports a kind of device."""
    kinds = {"triton": ("cuda",), "grouped": ("cuda",), BF16: (), "cpu": ("cpu",)}
    return device.type in kinds.get(name, (device.type,))


def multiplies_bf16() -> bool:
    """Whether the CPU has instructions for products in bfloat16."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _reference(loaded: "Loaded") -> Opened:
    plan = loaded.plan
    denoiser = TransformersDenoiser(loaded.model, loaded.stop_ids, plan.context, plan.snapshots)
    return Opened(ReferenceStepper(denoiser, plan.rows), "")


def _cpu_bf16(loaded: "Loaded") -> Opened:
    if not multiplies_bf16():
        raise Unavailable("the CPU has neither AVX512-BF16 nor AMX")
    return _cpu(loaded, BF16, torch.bfloat16)


def _cpu(loaded: "Loaded", name: str = "cpu", products: torch.dtype | None = None) -> Opened:
    if loaded.device.type != "cpu":
        raise Unavailable(f"the model is on {loaded.device}")
    if loaded.dtype != torch.float32:
        raise Unavailable(
            f"it computes in float32, but the model is held in {str(loaded.dtype).removeprefix('torch.')}"
        )
    make_experts = partial(sorted_experts, gated=CPU.gated, products=products)
    return _own(loaded, name, CPU, make_experts, products=products)


def _triton(loaded: "Loaded") -> Opened:
    if why := availability.unavailable(loaded.device):
        raise Unavailable(why)
    if loaded.dtype != torch.bfloat16:
        raise Unavailable(f"the kernels compute in bfloat16, not in {str(loaded.dtype).removeprefix('torch.')}")
    if failure := self_check(loaded.model, loaded.device, TRITON):
        raise Unavailable(f"its self-test failed: {failure}")
    kernels = Kernels(TRITON)
    static = not loaded.plan.packing.streamed
    return _own(loaded, "triton", TRITON, kernels.experts, static, kernels.product)


def self_check(model: Any, device: torch.device, ops: Ops) -> str | None:
    """Test the kernels at the widths of a model, on its own weights. Returns the failure, or None."""
    text, layers = model.config.text_config, model.model.decoder.layers
    attention = {(a.q_proj.out_features // a.head_dim, a.k_proj.out_features // a.head_dim, a.head_dim)
                 for a in (layer.self_attn for layer in layers)}  # fmt: skip
    widths = self_test.Widths(
        text.hidden_size, text.num_experts, text.top_k_experts, text.vocab_size,
        model.final_logit_softcapping or None, tuple(sorted(attention)), text.rms_norm_eps,
    )  # fmt: skip
    first = layers[0]
    stacks = [packed_here(first.experts.gate_up_proj), packed_here(first.experts.down_proj)]
    experts = [(gate_up, down) for gate_up, down in [stacks] if gate_up is not None and down is not None]
    linear = packed_here(first.self_attn.o_proj.weight)
    return self_test.check(ops, widths, device, experts, [] if linear is None else [linear]).failure


def _grouped(loaded: "Loaded") -> Opened:
    if loaded.device.type != "cuda":
        raise Unavailable(f"the model is on {loaded.device}")
    check_grouped(loaded.device, loaded.dtype)
    static = torch.cuda.get_device_capability(loaded.device) in _GRAPH_SAFE and not loaded.plan.packing.streamed
    return _own(loaded, "grouped", TORCH, lambda experts: grouped_experts(experts, TORCH.gated), static)


def check_grouped(device: torch.device, dtype: torch.dtype) -> None:
    """Raises `Unavailable` if PyTorch's grouped product fails here or gives wrong results."""
    groups, width = torch.tensor([3, 3, 8], dtype=torch.int32, device=device), 64
    x = torch.linspace(-1, 1, 8 * width, device=device).view(8, width).to(dtype)
    stack = torch.linspace(-1, 1, 3 * width * width, device=device).view(3, width, width).to(dtype)
    try:
        found = functional.grouped_mm(x, stack, offs=groups)
    except (RuntimeError, NotImplementedError) as wrong:
        raise Unavailable(f"PyTorch's grouped product fails ({str(wrong).partition(chr(10))[0]})") from wrong
    right = torch.cat([x[:3].double() @ stack[0].double(), x[3:].double() @ stack[2].double()])
    error = float((found.double() - right).norm() / right.norm())
    if not error < _WORST:
        raise Unavailable(f"PyTorch's grouped product has an error of {error:.1e}")


def _own(
    loaded: "Loaded",
    name: str,
    ops: Ops,
    make_experts: Callable[[nn.Module], ExpertsFunction],
    static: bool = False,
    make_product: Callable[[nn.Module], Any] = lambda layer: layer,
    products: torch.dtype | None = None,
) -> Opened:
    """The device stepper with dgtui's own forward; `static`: its steps can be captured."""
    if is_beside(loaded.model):
        raise Unavailable("an adapter is beside its quantized layers")
    plan, why = loaded.plan, graphs.trouble(loaded.device) if static else ""
    captures = static and not why
    with torch.inference_mode():
        decoder = Decoder(loaded.model, ops, make_experts, make_product, products)
    denoiser = OwnDenoiser(loaded.model, loaded.stop_ids, plan.context, plan.snapshots)
    denoiser.use(decoder, BUCKET if captures else 1)
    stepper = DeviceStepper(
        denoiser,
        lambda top_k: head_for(decoder.embedding, decoder.softcap, ops, top_k),
        f"device-{name}",
        plan.rows,
        Graphs(report=loaded.slow_down) if captures else None,
    )
    return Opened(stepper, why)


_OPEN: Final[dict[str, Callable[["Loaded"], Opened]]] = {
    "triton": _triton,
    "grouped": _grouped,
    BF16: _cpu_bf16,
    "cpu": _cpu,
    "reference": _reference,
}
