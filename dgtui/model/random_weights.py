"""Random weights for the architecture in a config.json, to measure loading, memory and speed without the real ones.
The output of such a model is meaningless."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from dgtui.model.skeleton import lay_out, slots
from dgtui.model.stored import StoredTensor, total_size
from dgtui.model.weights import Report, tell

_STD: Final = 0.02
_PIECE: Final = 8_000_000
# The most numbers to draw at a time; at least one row is drawn.


class RandomWeights:
    """The tensors of a bfloat16 checkpoint, drawn at random; see `weights.TensorSource`.

    Matrices are normal with a standard deviation of 0.02; vectors and scales are 1. The same seed gives the same
    numbers on the same kind of device.
    """

    def __init__(self, geometry: Any, device: torch.device, seed: int = 0, progress: Report | None = None) -> None:
        model = lay_out(geometry, {}, torch.bfloat16)
        self._device, self._rng = device, torch.Generator(device).manual_seed(seed)
        self._progress, self._done = progress, 0
        self._tensors: dict[str, StoredTensor] = {}
        for name, (module, own) in slots(model).items():
            shape = tuple(getattr(module, own).shape)
            self._tensors[name] = StoredTensor("BF16", shape, 2 * torch.Size(shape).numel())
        self.total = total_size(self._tensors.values())

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """The tensors, by name."""
        return self._tensors

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """See `weights.TensorSource`."""
        entry = self._tensors[name]
        options: Any = {"dtype": torch.bfloat16, "device": self._device}
        if len(entry.shape) < 2:
            yield torch.ones(entry.shape, **options)
        else:
            rows, row = entry.shape[0], entry.elements // entry.shape[0]
            step = max(1, _PIECE // row)
            for start in range(0, rows, step):
                shape = (min(step, rows - start), *entry.shape[1:])
                yield torch.empty(shape, **options).normal_(std=_STD, generator=self._rng)
        self.skip(name)

    def skip(self, name: str) -> None:
        """Counts an unused tensor as done."""
        self._done += self._tensors[name].size
        tell(self._progress, "drawing weights", self._done, self.total)
