"""Where a model runs, in which type, and how much room there is: asked before a weight is read."""

import torch

from dgtui.errors import ModelUnloadable


def choose_device(wanted: str) -> torch.device:
    """ "auto": the first GPU, else Apple's, else the CPU. Or "cpu", "mps", "cuda", "cuda:N".

    Raises:
        ModelUnloadable: If this machine, or this build of PyTorch, has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return torch.device("cuda", 0) if cuda else torch.device("mps" if mps else "cpu")
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
    elif device.type == "mps" and not mps:
        raise ModelUnloadable(
            "mps was asked for, and PyTorch finds none here", hint="--device auto takes what there is"
        )
    return device


def choose_dtype(device: torch.device) -> torch.dtype:
    """What weights are loaded as: bfloat16 on GPUs, float32 on the CPU, where it is faster and exactly repeatable."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return torch.float16  # Metal knows no bfloat16 before
    return torch.bfloat16


def available(device: torch.device) -> int:
    """Bytes that can be taken on a device; Apple's GPU shares the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def gigabytes(size: int) -> str:
    """Bytes as decimal gigabytes, or megabytes where there are few: "51.6 GB", "7 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
