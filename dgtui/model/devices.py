"""The device, the data type and the free memory for a model: all known before any weight is read."""

import os

import torch

from dgtui.errors import ModelUnloadable
from dgtui.model.memory_limit import memory_limit


def choose_device(wanted: str) -> torch.device:
    """ "auto": the first GPU if it works, else Apple's, else the CPU. Or "cpu", "mps", "cuda", "cuda:N".

    A chosen GPU becomes this thread's current device, for calls that take no device (pinned memory, kernel tests).

    Raises:
        ModelUnloadable: This machine or this build of PyTorch has no such device, or cannot compute on it.
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
            found = f"only {count} such device{'s' * (count > 1)}" if count else "no CUDA device"
            raise ModelUnloadable(
                f"{wanted} was requested, but PyTorch finds {found} here",
                hint="use --device auto to take the best available device; run dgtui doctor to see what is missing",
            )
        if found := trouble(device):
            raise ModelUnloadable(
                f"{wanted} was requested, but PyTorch cannot use it: {found}", hint="use --device cpu to run without it"
            )
        torch.cuda.set_device(device)
    elif device.type == "mps" and not mps:
        raise ModelUnloadable(
            "mps was requested, but PyTorch finds no such device here",
            hint="use --device auto to take the best available device",
        )
    return device


def trouble(device: torch.device) -> str:
    """Why PyTorch cannot compute on a GPU that it finds; empty if it can.

    This build of PyTorch may have no kernels for such an old GPU, or too little memory may be left for the driver.
    """
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def choose_dtype(device: torch.device) -> torch.dtype:
    """The type that weights are loaded as: bfloat16 on GPUs; float32 on the CPU, where it is faster and repeatable."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return torch.float16  # older versions of Metal have no bfloat16
    return torch.bfloat16


def _unused() -> int:
    """Free bytes of the machine's memory. Without psutil, memory used by caches does not count as free."""
    try:
        import psutil
    except ImportError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)


def available(device: torch.device) -> int:
    """Bytes that this process can allocate on a device: what is free, within the container's limit.

    Apple's GPU shares the machine's memory, and may use only a part of it.
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
    """Returns the memory that PyTorch holds unused to the devices, where `available` and other programs see it."""
    torch.cuda.empty_cache()  # does nothing if no GPU exists or was used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
