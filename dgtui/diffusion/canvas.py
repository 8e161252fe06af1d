"""The canvas: the id at every position, and which positions are pinned."""

import torch


class Canvas:
    """B canvases of C positions: `ids` (B, C) int64 and `pinned` (B, C) bool on one device.

    A pinned position keeps its id of `held` (B, C); `set_free` changes free positions only.
    """

    def __init__(self, ids: torch.Tensor, pinned: torch.Tensor) -> None:
        self.ids, self.held, self.pinned = ids, ids.clone(), pinned

    @property
    def free(self) -> torch.Tensor:
        """Mask (B, C) of the positions that are not pinned."""
        return ~self.pinned

    def set_free(self, rows: torch.Tensor, ids: torch.Tensor) -> None:
        """Sets the free positions of `rows` to new ids (len(rows), C)."""
        self.ids[rows] = torch.where(self.pinned[rows], self.held[rows], ids)

    def pin(self, row: int, position: int, token: int) -> None:
        """Keeps a token at a position from now on."""
        self.ids[row, position] = self.held[row, position] = token
        self.pinned[row, position] = True

    def unpin(self, row: int, position: int) -> None:
        """Frees a position; it keeps its token until the next step."""
        self.pinned[row, position] = False
