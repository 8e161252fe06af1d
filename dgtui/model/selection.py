"""Chooses the checkpoint for a command: the one that was named, or the best one that this machine can run."""

from dgtui.errors import DgtuiError, OutOfMemory
from dgtui.model.catalog import EMBEDDED, REAL, Checkpoint, cached, resolve
from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint


def select(name: str | None) -> Checkpoint | OpenCheckpoint:
    """The named checkpoint. None: the published one if it is in the hub cache and fits the GPU, else the embedded one.

    Imports torch only for None on a machine that has the published checkpoint.

    Raises:
        ModelNotFound: There is no such checkpoint on this machine. Nothing is downloaded.
    """
    if name is not None:
        return resolve(name)
    published = cached(REAL)
    if published is not None:
        try:
            opened = open_checkpoint(published)
            if fits_gpu(opened):
                return opened
        except DgtuiError:  # e.g. half downloaded; an explicit --model shows the cause
            pass
    return resolve(EMBEDDED)


def fits_gpu(opened: OpenCheckpoint) -> bool:
    """Whether there is a GPU that can hold the checkpoint. Raises the errors of `loader.plan_for`."""
    import torch

    if not torch.cuda.is_available():
        return False
    from dgtui.model.loader import plan_for
    from dgtui.model.parts import LoadOptions

    try:
        plan_for(opened, LoadOptions(device="cuda"))
    except OutOfMemory:
        return False
    return True
