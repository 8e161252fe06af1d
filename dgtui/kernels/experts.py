"""Products with 4-bit weights: the experts of a layer, grouped by expert, and single matrices.

T tokens, H hidden, E experts of width W, k experts per token, R = T · k routes. Shapes and meanings: `ops`.
"""

import dataclasses
from typing import Any, Final

import torch

from dgtui.kernels.packed import PackedWeight
from dgtui.kernels.tiles import Tile, architecture, power, tile_for

_ROUTES_AT_ONCE: Final = 1024
_COLUMNS_AT_ONCE: Final = 1024


def experts(
    x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, gate_up: PackedWeight, down: PackedWeight
) -> torch.Tensor:
    """See `ops.Experts`. Four launches: routes sorted and activations permuted; gate, up, GELU; down; the sum."""
    from dgtui.kernels.jit import experts as jit

    (tokens, k), (e, hidden, _) = index.shape, down.shape
    routes = tokens * k
    rows, arch = -(-routes // e), architecture(x.device)
    pair = [tile_for(weight, rows, arch) for weight in (gate_up, down)]
    least = min(tile.rows for tile in pair)  # both read one table of tiles
    tile, tile_down = (dataclasses.replace(tile, rows=least) for tile in pair)
    tiles = routes // least + min(e, routes)
    order, place = x.new_empty((2, routes), dtype=torch.int32)
    table = x.new_empty((3, tiles), dtype=torch.int32)
    ordered = torch.empty_like(x) if gate_up.order.pairs else x
    grid = (e + tokens * gate_up.order.pairs,)
    jit.prepare[grid](
        index, x, order, place, *table, ordered, routes, tiles,
        hidden, e, power(e), min(power(routes), _ROUTES_AT_ONCE), power(hidden), least, gate_up.order.pairs,
        num_warps=8,
    )  # fmt: skip
    mid = _gate_up(ordered, gate_up, tile, down.order.pairs, (order, table, routes, tiles, k))
    each = _product(mid, down, tile_down, (table, routes, tiles))
    out = torch.empty_like(x)
    columns = (tokens, -(-hidden // _COLUMNS_AT_ONCE))
    jit.combine[columns](each, place, weights, out, hidden, k, _COLUMNS_AT_ONCE, num_warps=4)
    return out


def linear(x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    """See `ops.Linear`. One launch, and one more that permutes `x` for weights in pairs."""
    return _product(_ordered(x, weight), weight, tile_for(weight, len(x), architecture(x.device)))


def mlp(x: torch.Tensor, gate_up: PackedWeight, down: PackedWeight) -> torch.Tensor:
    """See `ops.Mlp`. Two launches, and one more that permutes `x` for weights in pairs."""
    tile = tile_for(gate_up, len(x), architecture(x.device))
    mid = _gate_up(_ordered(x, gate_up), gate_up, tile, down.order.pairs)
    return _product(mid, down, tile_for(down, len(x), architecture(x.device)))


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """See `ops.Gated`. One launch."""
    from dgtui.kernels.jit import experts as jit

    rows, width = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty((rows, width))
    jit.gated[rows, -(-width // _COLUMNS_AT_ONCE)](gate_up, out, width, _COLUMNS_AT_ONCE, num_warps=4)
    return out


def _ordered(x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    """Rows (T, K) with the columns in the order of a weight."""
    if not weight.order.pairs:
        return x
    from dgtui.kernels.jit import experts as jit

    out = torch.empty_like(x)
    rows, columns = x.shape
    jit.permute[(rows,)](x, out, columns, power(columns), num_warps=4)
    return out


def _gate_up(
    x: torch.Tensor,
    weight: PackedWeight,
    tile: Tile,
    pairs: bool,
    grouped: tuple[torch.Tensor, torch.Tensor, int, int, int] | None = None,
) -> torch.Tensor:
    """(rows, W): rows in the order of the routes, columns in the order given by `pairs`.

    `grouped`: order of the routes, table of tiles (3, tiles), number of routes, of tiles, of routes per token. Without
    it, all rows belong to a single matrix.
    """
    from dgtui.kernels.jit import experts as jit

    _, twice, columns = weight.shape
    width = twice // 2
    order, table, rows, tiles, k = grouped or (x, (x, x, x), len(x), -(-len(x) // tile.rows), 1)
    out = x.new_empty((rows, width))
    grid = (width // tile.columns, tiles)
    jit.gate_up[grid](
        x, *_tensors(weight), order, *table, out, rows,
        columns, width, k, tile.rows, tile.columns, *_constants(weight), tile.swap, tile.bytes, grouped is None, pairs,
        **tile.options,
    )  # fmt: skip
    return out


def _product(
    x: torch.Tensor, weight: PackedWeight, tile: Tile, grouped: tuple[torch.Tensor, int, int] | None = None
) -> torch.Tensor:
    """(rows, K) → (rows, N). `grouped`: table of tiles (3, tiles), number of rows, of tiles."""
    from dgtui.kernels.jit import experts as jit

    _, n, columns = weight.shape
    table, rows, tiles = grouped or ((x, x, x), len(x), -(-len(x) // tile.rows))
    out = x.new_empty((rows, n))
    grid = (n // tile.columns, tiles)
    jit.down[grid](
        x, *_tensors(weight), *table, out, rows,
        columns, n, tile.rows, tile.columns, *_constants(weight), tile.swap, tile.bytes, grouped is None,
        **tile.options,
    )  # fmt: skip
    return out


def _tensors(weight: PackedWeight) -> tuple[torch.Tensor, ...]:
    """Codes, scales, offsets, nested scales (3), factors of parts; a dummy tensor for each that is missing."""
    none = weight.scales
    nested = weight.nested or (none, none, none)
    offsets, parts = (none if each is None else each for each in (weight.offsets, weight.parts))
    return weight.codes, weight.scales, offsets, *nested, parts


def _constants(weight: PackedWeight) -> tuple[Any, ...]:
    """Decoder, high half first, group, whether scales are nested, whether there are offsets, number of parts."""
    parts = 0 if weight.parts is None else weight.parts.shape[1]
    return (
        int(weight.decoder), weight.order.high_first, weight.group, weight.nested is not None,
        weight.offsets is not None, parts,
    )  # fmt: skip


def experts_reference(
    x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, gate_up: PackedWeight, down: PackedWeight
) -> torch.Tensor:
    """`experts` using PyTorch's operations, in the type of `x`: every expert for every token."""
    mid = gated_reference(torch.einsum("th,ewh->tew", x, gate_up.dequantize(x.dtype)))
    each = torch.einsum("tew,ehw->teh", mid, down.dequantize(x.dtype))
    chosen = each.gather(1, index.long().unsqueeze(-1).expand(-1, -1, each.shape[-1]))
    return torch.einsum("tk,tkh->th", weights.to(x.dtype), chosen)


def linear_reference(x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    """`linear` using PyTorch's operations."""
    return torch.nn.functional.linear(x, weight.dequantize(x.dtype, 0))


def mlp_reference(x: torch.Tensor, gate_up: PackedWeight, down: PackedWeight) -> torch.Tensor:
    """`mlp` using PyTorch's operations."""
    return linear_reference(gated_reference(linear_reference(x, gate_up)), down)


def gated_reference(gate_up: torch.Tensor) -> torch.Tensor:
    """`gated` using PyTorch's operations."""
    gate, up = gate_up.chunk(2, -1)
    return torch.nn.functional.gelu(gate, approximate="tanh") * up
