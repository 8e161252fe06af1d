"""Plans how to hold a model on this machine: predicts the memory of each way of packing, and picks the best that fits.

Bytes are predicted from the headers of the files and the config, before anything is loaded. Sizes are decimal: 1 GB is
10^9 bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch

from dgtui.errors import OutOfMemory
from dgtui.model import devices
from dgtui.model.formats import ITEM_SIZE, Format
from dgtui.model.kernel_weights import kernel_format
from dgtui.model.parts import Packing, count_parts, experts_layer, held_formats, part_of
from dgtui.model.stored import StoredTensor
from dgtui.text import gigabytes

CONTEXT: Final = 8192
"""Default number of tokens of prefix and canvas."""
SNAPSHOTS: Final = (8, 2)
"""Boundaries of a conversation that are kept to return to without encoding again; the second if memory is short."""
PIECE: Final = 1024
"""Most ids that the encoder reads at a time, unless an image is longer: intermediates of a whole long prompt would take
gigabytes."""

_LOGITS: Final = 3
# Number of fp32 tensors of canvas × vocabulary that a step of the reference holds at once: scaled logits,
# probabilities, logarithms. The device stepper holds one, and works on pieces.
_PIECES: Final = {"cpu": 3 << 22, "cuda": 5 << 25}
# Bytes of these pieces and of their intermediates.
_STATES: Final = 4
# Number of tensors of tokens × width that a layer holds at once, besides the output of experts or the attention inputs.
_CPU_COPIES: Final = 3
# Tensors of tokens × chosen experts × width that the device stepper's experts take on the CPU, as measured.
_ROWS: Final = 16
# Most canvases in one forward: more of them make a step no cheaper.
_GPU_RESERVE: Final = 500_000_000
# Bytes of a GPU for its driver, kernels and gaps between tensors.


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted bytes of one way of packing."""

    weights: Mapping[str, int]
    """On the device, by part."""
    streamed: int
    """Experts in main memory, in addition to the device."""
    prefix: int
    """Keys and values of the context, of the kept boundaries, and of a canvas with the context before it."""
    computed: int
    """Intermediates of a step or of encoding a piece of a prompt, whichever is larger."""

    @property
    def total(self) -> int:
        """Total on the device."""
        return sum(self.weights.values()) + self.prefix + self.computed


@dataclass(frozen=True, slots=True)
class Plan:
    """The chosen way to hold a model, and the reason."""

    device: torch.device
    dtype: torch.dtype
    packing: Packing
    formats: tuple[str, ...]
    """The quantized formats of the weights, the most common first."""
    context: int
    """Most tokens of prefix and canvas together."""
    snapshots: int
    rows: int
    """Most canvases in one forward."""
    estimate: Estimate
    available: int
    """Bytes available on the device."""
    reason: str
    """Why it is held this way, in one sentence; empty if the model is held in full."""


def estimate(
    config: Any,
    tensors: Mapping[str, StoredTensor],
    packing: Packing,
    dtype: torch.dtype,
    context: int = CONTEXT,
    snapshots: int = SNAPSHOTS[0],
    *,
    device: str = "cpu",
    reference: bool = False,
) -> Estimate:
    """Predict the memory that a model takes.

    Args:
        config: A `DiffusionGemmaConfig`.
        tensors: The tensors in its files, packed or not.
        packing: How to hold it.
        dtype: Type of the weights that are not packed.
        context: Tokens of prefix and canvas.
        snapshots: Number of kept boundaries, including the last.
        device: Kind of the device that it runs on.
        reference: It runs on the reference stepper, and not on the device stepper.
    """
    text = config.text_config
    first_streamed = text.num_hidden_layers - packing.streamed
    held = held_formats(tensors, packing)
    if device == "cuda" and not reference:
        held = {name: kernel_format(form, tensors[name].shape[-1]) or form for name, form in held.items()}
    here: list[tuple[str, int]] = []
    streamed: Counter[int] = Counter()
    for name, entry in tensors.items():
        layer = experts_layer(name)
        if part_of(name) == "vision" and not packing.vision:
            continue
        if layer is not None and layer >= first_streamed:
            streamed[layer] += _size(entry, held.get(name), dtype)
        else:
            here.append((name, _size(entry, held.get(name), dtype)))
    layers = _widths(text, tensors)
    piece = min(PIECE, context)
    copies = _CPU_COPIES if device == "cpu" and not reference else 1
    reading = _layer_bytes(text, layers, piece, context, dtype, masked=True, copies=copies)
    # The vision tower takes less than a step: 0.14 GB for an image of 280 tokens at full size
    step = _reference_step(config, layers, context, dtype) if reference else _device_step(config, layers, dtype, device)
    computed = max(step, reading)
    if held:  # one matrix at a time is decoded
        experts = 2 * text.moe_intermediate_size if text.num_experts else 0
        widest = max(text.intermediate_size, experts, *(layer.queries for layer in layers))
        computed += dtype.itemsize * text.hidden_size * widest
    computed += max(streamed.values(), default=0)
    prefix = sum(
        2 * layer.keys * dtype.itemsize * (layer.seen(context) * snapshots if layer.window else context)
        for layer in layers
    )
    if not reference:
        prefix += _canvas_bytes(layers, config.canvas_length, context, dtype)
    return Estimate(count_parts(here), streamed.total(), prefix, computed)


def choose(
    config: Any,
    tensors: Mapping[str, StoredTensor],
    device: torch.device,
    dtype: torch.dtype,
    *,
    context: int | None = None,
    vision: bool | None = None,
    most: int | None = None,
    fixed: bool = False,
    decoded: bool = False,
) -> Plan:
    """The best way to hold a model that fits: in full, else in 4 bit, else with fewer and fewer experts on the GPU.

    Args:
        config: A `DiffusionGemmaConfig`.
        tensors: The tensors in its files.
        device: Where it will run.
        dtype: Type of the weights that are not packed.
        context: Most tokens of prefix and canvas; None for as many as fit, at least `CONTEXT`.
        vision: The vision tower is required (True), left out (False), or kept if it fits (None).
        most: Most free bytes of the device to use.
        fixed: Do not pack: another program has quantized the weights.
        decoded: Hold the weights as plain numbers.

    Raises:
        OutOfMemory: Nothing fits; the message says what the smallest way would take.
    """
    free = devices.available(device)
    available = free if most is None else min(free, most)
    if device.type == "cuda":
        available -= _GPU_RESERVE
    longest: int = config.text_config.max_position_embeddings
    wanted = min(context or CONTEXT, longest)
    seen = any(part_of(name) == "vision" for name in tensors)
    layers: int = config.text_config.num_hidden_layers
    rejected: list[tuple[Packing, int]] = []

    def needed(packing: Packing, snapshots: int, tokens: int) -> Estimate:
        """For the stepper that takes more: which of them works is known only after loading."""
        both = (
            estimate(config, tensors, packing, dtype, tokens, snapshots, device=device.type, reference=reference)
            for reference in (False, True)
        )
        return max(both, key=lambda each: each.total)

    def total(packing: Packing, snapshots: int, tokens: int) -> int:
        return needed(packing, snapshots, tokens).total

    if fixed or decoded:
        ways: Iterable[Packing] = [Packing(decoded=decoded, vision=fixed or (seen and vision is not False))]
    else:
        ways = _ways(tensors, layers if device.type == "cuda" else 0, seen, vision)
    for packing in ways:
        for snapshots in SNAPSHOTS:
            needs = needed(packing, snapshots, wanted)
            if needs.total > available:
                continue
            if needs.streamed > devices.available(torch.device("cpu")):
                continue
            if context is None:
                half = needs.total + (available - needs.total) // 2  # the rest is for additional canvases
                wanted = _longest(wanted, longest, partial(total, packing, snapshots), half)
                needs = needed(packing, snapshots, wanted)
            another = _another_canvas(config, _widths(config.text_config, tensors), wanted, dtype)
            rows = min(_ROWS, 1 + (available - needs.total) // another)
            reason = _reason(packing, rejected, available, device)
            formats = _formats(tensors, packing)
            return Plan(device, dtype, packing, formats, wanted, snapshots, rows, needs, available, reason)
        rejected.append((packing, needs.total))
    packing, least = rejected[-1]
    place = "the GPU" if device.type == "cuda" else "this machine"
    hint = "close other programs that use memory, or use a smaller model: --model embedded"
    if wanted > 2048:
        hint += "; a smaller --context also saves memory"
    if device.type == "cuda":
        hint += "; --device cpu uses main memory instead"
    raise OutOfMemory(
        f"the model needs {gigabytes(least)}{_as(packing)}, but {place} has only {gigabytes(available)} free",
        hint=hint,
    )


def _formats(tensors: Mapping[str, StoredTensor], packing: Packing) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for name, form in held_formats(tensors, packing).items():
        counts[form.name] += tensors[name].elements
    return tuple(name for name, _ in counts.most_common())


def _longest(fits: int, most: int, total: Callable[[int], int], available: int) -> int:
    """The most tokens, up to `most`, that fit into the available memory; `fits` tokens are known to fit."""
    if total(most) <= available:
        return most
    while most - fits > 512:
        middle = (fits + most) // 2
        fits, most = (middle, most) if total(middle) <= available else (fits, middle)
    return fits


def _ways(tensors: Mapping[str, StoredTensor], layers: int, seen: bool, vision: bool | None) -> Iterator[Packing]:
    """All ways, best first. `layers`: how many could be streamed, 0 without a GPU; `seen`: there is a vision tower."""
    keep = seen and vision is not False
    ways: list[Packing] = []
    held: list[dict[str, Format]] = []
    nf4 = Packing(nf4=True)
    # On a CPU products take much longer than decoding, and attention and MLP would be held in fp32
    between = (replace(nf4, experts_only=True),) if layers else ()
    for way in (Packing(), *between, nf4, replace(nf4, double=True)):
        if (formats := held_formats(tensors, way)) not in held:  # skip if packing changes nothing
            ways.append(replace(way, vision=keep))
            held.append(formats)
    yield from ways
    smallest = ways[-1]
    if keep and vision is None:
        smallest = replace(smallest, vision=False)
        yield smallest
    for streamed in range(1, layers + 1):
        yield replace(smallest, streamed=streamed)


def _as(packing: Packing) -> str:
    """Describes a way of packing for a message: " in 4 bit", …; empty for none."""
    words = [
        ("in 4 bit", packing.nf4 and not packing.experts_only),
        ("with the experts in 4 bit", packing.experts_only),
        ("with scales in 8 bit", packing.double),
        ("without the vision tower", packing.nf4 and not packing.vision),
        (f"with the experts of {packing.streamed} layers in main memory", bool(packing.streamed)),
    ]
    said = ", ".join(word for word, true in words if true)
    return f" {said}" if said else ""


def _reason(packing: Packing, rejected: list[tuple[Packing, int]], available: int, device: torch.device) -> str:
    if not rejected:
        return ""
    needed = next(taken for way, taken in reversed(rejected) if not way.streamed)
    place = "the GPU" if device.type == "cuda" else "the memory"
    free = f"{place} has only {gigabytes(available)} free"
    return f"held{_as(packing)}: otherwise it would take {gigabytes(needed)}, but {free}"


def _size(stored: StoredTensor, form: Format | None, dtype: torch.dtype) -> int:
    """Bytes of a loaded tensor, in a quantized format or as plain numbers."""
    if form is not None:
        return form.size(stored.shape, len(stored.parts))
    floats = stored.form is not None or "F" in stored.dtype
    return stored.elements * (dtype.itemsize if floats else ITEM_SIZE[stored.dtype])


@dataclass(frozen=True, slots=True)
class _Layer:
    """The attention of a layer: number of values in a token's queries and in its keys, all heads together."""

    queries: int
    keys: int
    window: int
    """How many tokens back it sees; 0 for all."""

    def seen(self, context: int) -> int:
        """Number of prefix tokens whose keys and values are kept."""
        return min(context, self.window - 1) if self.window else context


def _widths(text: Any, tensors: Mapping[str, StoredTensor]) -> list[_Layer]:
    """From the shapes of the weights: the names in config.json differ between versions of transformers."""

    hidden: int = text.hidden_size

    def out(layer: int, which: str) -> int:
        name = f"model.decoder.layers.{layer}.self_attn.{which}_proj.weight"
        return tensors[name].elements // hidden if name in tensors else 0

    return [
        _Layer(out(at, "q"), out(at, "k"), text.sliding_window if kind == "sliding_attention" else 0)
        for at, kind in enumerate(text.layer_types)
    ]


def _reference_step(config: Any, layers: list[_Layer], context: int, dtype: torch.dtype) -> int:
    """Bytes of the reference's intermediates for one canvas: a layer joins the keys of the prefix and of the canvas."""
    text, canvas = config.text_config, config.canvas_length
    logits: int = _LOGITS * 4 * canvas * text.vocab_size
    return logits + _layer_bytes(text, layers, canvas, context, dtype)


def _device_step(config: Any, layers: list[_Layer], dtype: torch.dtype, device: str) -> int:
    """Bytes of the device stepper's intermediates for one canvas, without `_canvas_bytes`."""
    text, canvas = config.text_config, config.canvas_length
    logits: int = 4 * canvas * text.vocab_size
    return (
        logits
        + min(3 * logits, _PIECES.get(device, 0))
        + _layer_bytes(text, layers, canvas, 0, dtype, copies=_CPU_COPIES if device == "cpu" else 1)
    )


def _canvas_bytes(layers: list[_Layer], canvas: int, context: int, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of a canvas and the prefix before it, which the device stepper joins in a buffer."""
    places = (layer.keys * (layer.seen(context - canvas) + canvas) for layer in layers)
    return 2 * dtype.itemsize * sum(places)


def _another_canvas(config: Any, layers: list[_Layer], context: int, dtype: torch.dtype) -> int:
    """Bytes of one more canvas in a forward, for the stepper that takes more."""
    text, canvas = config.text_config, config.canvas_length
    own = _canvas_bytes(layers, canvas, context, dtype) + _layer_bytes(text, layers, canvas, 0, dtype)
    return max(own, _reference_step(config, layers, context, dtype))


def _layer_bytes(
    text: Any,
    layers: list[_Layer],
    tokens: int,
    context: int,
    dtype: torch.dtype,
    masked: bool = False,
    copies: int = 1,
) -> int:
    """Bytes of the largest layer's intermediates for this many tokens: states, and either the experts' output or a copy
    of the context's keys and values. With a mask, it is a copy of the keys, plus keys and values for every head, plus
    the mask itself. `copies`: how many tensors of the size of the experts' output are held at once."""

    hidden: int = text.hidden_size
    experts: int = copies * tokens * hidden * (text.top_k_experts or 0)

    def numbers(layer: _Layer) -> int:
        heads = layer.queries if masked and layer.queries > layer.keys else 0
        read = (layer.seen(context) + tokens) * (layer.keys + 2 * heads if masked else 2 * layer.keys)
        return tokens * _STATES * max(hidden, layer.queries) + max(experts, read)

    mask = tokens * context * (1 + dtype.itemsize) if masked else 0  # as booleans and as numbers
    return max(map(numbers, layers)) * dtype.itemsize + mask
