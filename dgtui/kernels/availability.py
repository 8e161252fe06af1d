"""Whether the kernels can run on a device at all. `self_test` checks their results."""

import functools
import os
import shutil

import torch

from dgtui.kernels.tiles import OLDEST, architecture


def unavailable(device: torch.device) -> str | None:
    """A short reason why the kernels cannot run on a device; None if they can."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "no NVIDIA GPU"
    found = architecture(device)
    if found < OLDEST:
        return f"the GPU has compute capability {found / 10:.1f}, but the kernels need {OLDEST / 10:.1f}"
    return broken_triton() or missing_compiler()


def missing_compiler() -> str | None:
    """The reason if there is no C compiler: Triton compiles its launcher when a kernel is first launched."""
    named = os.environ.get("CC")
    if any(shutil.which(name) for name in ([named] if named else ["gcc", "clang"])):
        return None
    return (
        f"the C compiler {named} (CC) cannot be found" if named else "there is no C compiler: Triton needs gcc or clang"
    )


@functools.cache
def broken_triton() -> str | None:
    """The reason why Triton cannot be imported; None if it can."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return "Triton is not installed" if getattr(error, "name", None) == "triton" else f"Triton is broken: {error}"
    except Exception as error:  # a broken installation raises anything
        return f"Triton is broken: {type(error).__name__}: {error}"
    return None
