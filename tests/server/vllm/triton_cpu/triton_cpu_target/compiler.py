"""The compiler of the CPU target, which compiles nothing."""

from typing import Any

from triton.backends.compiler import BaseBackend

NEEDED = "set TRITON_INTERPRET=1"


class CPUBackend(BaseBackend):  # type: ignore[misc]
    """Only there to be found."""

    @staticmethod
    def supports_target(target: Any) -> bool:
        return bool(target.backend == "cpu")

    def hash(self) -> str:
        return "none"

    def parse_options(self, options: Any) -> Any:
        raise RuntimeError(NEEDED)

    def add_stages(self, stages: Any, options: Any, language: Any) -> None:
        raise RuntimeError(NEEDED)

    def load_dialects(self, context: Any) -> None:
        """There are none."""

    def get_module_map(self) -> dict[str, Any]:
        return {}
