"""Which checkpoint a command takes: the one that was named, or the best one that this machine can run."""

from dgtui.errors import DgtuiError, OutOfMemory
from dgtui.model.catalog import EMBEDDED, REAL, Checkpoint, cached, resolve
from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint


def select(name: str | None) -> Checkpoint | OpenCheckpoint:
    """The checkpoint of a name. None: the published one if it is in the hub cache and fits the GPU, else the embedded.

    Only None in a machine with the published checkpoint asks torch about the GPU.

    Raises:
        ModelNotFound: If there is no such checkpoint on this machine. Nothing is fetched.
    """
    if name is not None:
        return resolve(name)
    published = cached(REAL)
    if published is not None:
        try:
            opened = open_checkpoint(published)
            if fits_gpu(opened):
                return opened
        except DgtuiError:  # half fetched, say; naming it tells why
            pass
    return resolve(EMBEDDED)


def fits_gpu(opened: OpenCheckpoint) -> bool:
    """Whether there is a GPU, and a way to hold the checkpoint on it. Raises what `loader.plan_for` raises."""
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
