"""The driver of the CPU target. Kernels are interpreted, never launched."""

from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

NEEDED = "set TRITON_INTERPRET=1"


class CPUDriver(DriverBase):  # type: ignore[misc]
    """Answers what Triton asks before it interprets a kernel."""

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise RuntimeError(NEEDED)

    def get_current_target(self) -> Any:
        return GPUTarget("cpu", 0, 1)

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")

    def get_benchmarker(self) -> Any:
        raise RuntimeError(NEEDED)

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one device."""

    def get_current_stream(self, device: int) -> int:
        return 0
