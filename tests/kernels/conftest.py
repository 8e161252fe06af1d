"""Kernels run in Triton's interpreter, mended."""

import interpreter
import pytest

interpreter.install()


@pytest.fixture(autouse=True)
def quiet_interpreter(recwarn: pytest.WarningsRecorder) -> None:
    """NumPy warns of infinities that kernels mask."""
