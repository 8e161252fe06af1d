"""An image as the encoder's input: plain data passed with a prompt, whose ids mark the image's positions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Image:
    """P patches of D numbers each. Two images with the same contents are equal.

    Raises `ValueError` for arrays that cannot be an image.
    """

    patches: npt.NDArray[np.float32] = field(compare=False, repr=False)
    "(P, D) pixels from 0 to 1, padding included; becomes read-only"
    positions: npt.NDArray[np.int32] = field(compare=False, repr=False)
    "(P, 2) column and row of each patch, -1 for padding; becomes read-only"
    tokens: int
    "number of positions in a prompt"
    digest: str = field(init=False)
    "BLAKE2b of the contents, in hexadecimal"

    def __post_init__(self) -> None:
        count = len(self.patches)
        for wrong, message in (
            (self.patches.ndim != 2 or self.patches.dtype != "float32", "patches must be (P, D) of float32"),
            (
                self.positions.shape != (count, 2) or self.positions.dtype != "int32",
                "positions must be (P, 2) of int32",
            ),
            (not 1 <= self.tokens <= count, f"{count} patches cannot be {self.tokens} tokens"),
        ):
            if wrong:
                raise ValueError(f"not an image: {message}")
        digest = hashlib.blake2b(repr((self.patches.shape, self.tokens)).encode(), digest_size=16)
        for array in (self.patches, self.positions):
            digest.update(array.tobytes())
            array.flags.writeable = False
        object.__setattr__(self, "digest", digest.hexdigest())
