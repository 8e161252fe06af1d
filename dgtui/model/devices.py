"""Where a model runs, in which type, and how much room there is: asked before a weight is read."""

import os

import torch

from dgtui.errors import ModelUnloadable
from dgtui.model.memory_limit import memory_limit


def choose_device(wanted: str) -> torch.device:
    """ "auto": the first GPU if it works, else Apple's, else the CPU. Or "cpu", "mps", "cuda", "cuda:N".

    A GPU that is chosen is this thread's from here on, also for what takes no device (pinned memory, kernels' tests).

    Raises:
        ModelUnloadable: If this machine, or this build of PyTorch, has no such device, or cannot compute on it.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        device = torch.device("cuda", 0)
        if not cuda or trouble(device):
            return torch.device("mps" if mps else "cpu")
        torch.cuda.set_device(device)
        return device
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        device = torch.device("cuda", device.index or 0)
        if device.index >= count:
            found = f"{count} of them" if count else "none"
            raise ModelUnloadable(
                f"{wanted} was asked for, and PyTorch finds {found} here",
                hint="--device auto takes what there is; dgtui doctor says what is missing",
            )
        if found := trouble(device):
            raise ModelUnloadable(
                f"{wanted} was asked for, and PyTorch cannot use it: {found}", hint="--device cpu does without it"
            )
        torch.cuda.set_device(device)
    elif device.type == "mps" and not mps:
        raise ModelUnloadable(
            "mps was asked for, and PyTorch finds none here", hint="--device auto takes what there is"
        )
    return device


def trouble(device: torch.device) -> str:
    """Why PyTorch cannot compute on a GPU that it finds; empty if it can.

    There may be no kernels for so old a GPU in this build of PyTorch, or no memory left for the driver's own needs.
    """
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def choose_dtype(device: torch.device) -> torch.dtype:
    """What weights are loaded as: bfloat16 on GPUs, float32 on the CPU, where it is faster and exactly repeatable."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return torch.float16  # Metal knows no bfloat16 before
    return torch.bfloat16


def _unused() -> int:
    """Bytes of the machine's memory that nobody uses. Without psutil, on a bare machine, caches do not count."""
    try:
        import psutil
    except ImportError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)


def available(device: torch.device) -> int:
    """Bytes that this process can take on a device: what others have left, and what a container lets it have.

    Apple's GPU shares the machine's memory, and lends itself no more than a part.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _unused()
    limit = memory_limit()
    if limit is not None:
        free = min(free, limit.free)
    if device.type == "mps":
        free = min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free


def give_back() -> None:
    """Hands the memory that PyTorch holds unused back to the devices, where `available` and other programs see it."""
    torch.cuda.empty_cache()  # does nothing where there is no GPU, or none was used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def gigabytes(size: int) -> str:
    """Bytes as decimal gigabytes, or megabytes where there are few: "51.6 GB", "7 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
