"""The KV cache of the prefix, and how to return to an earlier point of it.

Sliding layers keep only their window; older keys and values are gone. Their state is therefore saved at each boundary
(a turn, a block). To go back, the full layers are cut, the sliding ones are restored from the nearest boundary at or
before the position, and the rest is encoded again.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]

Place = int | str
"""One position of a prefix: a token id, or the digest of the image that covers it."""


def common_length(a: Sequence[Place], b: Sequence[Place]) -> int:
    """Length of the common prefix of two sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    length: int
    sliding: KeysValues
    """keys and values (1, heads, ≤ window, head_dim) of the sliding layers, in order"""


class Prefix:
    """The encoder's cache for one sequence of token ids and images.

    `encode(ids, cache, start)` reads ids into a cache that already holds `start` ids; `new_cache` makes an empty
    one. Only the most recent `snapshots` boundaries are kept.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Place], DynamicCache, int], None],
        new_cache: Callable[[], DynamicCache],
        snapshots: int,
    ) -> None:
        self._encode, self._new_cache, self._most = encode, new_cache, snapshots
        self.encoded = 0
        "ids encoded since this object was created, for meters and tests"
        self.clear()

    def clear(self) -> None:
        """Empties the prefix and frees its memory."""
        self.ids: list[Place] = []
        self.cache = self._new_cache()
        self._snapshots: list[_Snapshot] = []

    def extend_to(self, ids: Sequence[Place]) -> None:
        """Makes the prefix exactly `ids`; encodes only what it does not hold yet."""
        shared = common_length(self.ids, ids)
        if shared < len(self.ids):
            self._roll_back(shared)
        self.append(ids[len(self.ids) :])

    def append(self, ids: Sequence[Place]) -> None:
        """Encodes more ids and saves the boundary after them."""
        if not ids:
            return
        self._snapshots = self._snapshots[
            max(0, len(self._snapshots) + 1 - self._most) :
        ]  # makes room for the next one
        try:
            self._encode(ids, self.cache, len(self.ids))
        except BaseException:  # layers may have grown unevenly: this cache can no longer be used
            self.clear()
            raise
        self.ids.extend(ids)
        self.encoded += len(ids)
        for layer in self._sliding():  # cut to the window, they are views that keep the whole tensor alive
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
        sliding = [
            (layer.keys, layer.values) for layer in self._sliding()
        ]  # safe: a layer appends to copies of its tensors
        self._snapshots = [*self._snapshots, _Snapshot(len(self.ids), sliding)]

    def _layers(self) -> list[Any]:
        return self.cache.layers  # a union type; this model has attention layers only

    def _sliding(self) -> list[Any]:
        return [layer for layer in self._layers() if layer.is_sliding]

    def _roll_back(self, length: int) -> None:
        """Cuts the prefix to `length` ids, or to the nearest earlier boundary that can be restored."""
        window = min((layer.sliding_window for layer in self._sliding()), default=len(self.ids) + 1)
        if len(self.ids) >= window:  # the window has dropped some
            snapshot = max((s for s in self._snapshots if s.length <= length), key=lambda s: s.length, default=None)
            if snapshot is None:
                self.clear()
                return
            length = snapshot.length
            for layer, (keys, values) in zip(self._sliding(), snapshot.sliding, strict=True):
                layer.keys, layer.values, layer.cumulative_length = keys, values, length
        remove = len(self.ids) - length
        for layer in self._layers():
            if layer.get_seq_length() > length:
                layer.crop(-remove)
        del self.ids[length:]
        self._snapshots = [s for s in self._snapshots if s.length <= length]
        if not self.ids:
            self.clear()

    def expanded(self, rows: int) -> DynamicCache:
        """A view of the cache for a batch of `rows`, without a copy.

        Encoder and decoder can read canvases with it: a layer returns its own keys and values followed by theirs, and
        stores nothing. The prefix and its memory do not change.
        """
        layers = [copy.copy(layer) for layer in self._layers()]
        for layer in layers:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
            layer.update = partial(_joined, layer)
        view = copy.copy(self.cache)
        view.layers = layers
        return view


def _joined(
    layer: Any, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the layer's `update` would, without changing the layer."""
    return torch.cat([layer.keys, keys], dim=-2), torch.cat([layer.values, values], dim=-2)
