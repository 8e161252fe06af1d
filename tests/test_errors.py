"""What `dgtui.errors` promises: every typed error leads to a documented exit code."""

import pytest
import torch

from dgtui import errors
from dgtui.errors import EXIT_CODES, DgtuiError, out_of_memory

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DgtuiError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_documented_exit_code(error: type[DgtuiError]) -> None:
    assert error.exit_code in EXIT_CODES
    assert error.exit_code != 0


def test_every_failure_code_has_an_error() -> None:
    assert {error.exit_code for error in CLASSES} == set(EXIT_CODES) - {0}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RunFailed, 1),
        (errors.InvalidSettings, 2),
        (errors.ModelNotFound, 3),
        (errors.UnsafeCheckpoint, 3),
        (errors.DocumentRefused, 4),
        (errors.OutOfMemory, 5),
        (errors.NotATerminal, 6),
        (errors.Interrupted, 130),
    ],
)
def test_codes_are_those_of_the_command_line(error: type[DgtuiError], code: int) -> None:
    assert error.exit_code == code


def test_an_error_says_what_happened_and_what_to_do() -> None:
    error = errors.ModelNotFound("no checkpoint named x", hint="run dgtui model list to see the available models")
    assert (str(error), error.message, error.hint) == (
        "no checkpoint named x",
        "no checkpoint named x",
        "run dgtui model list to see the available models",
    )
    assert errors.RunFailed("it broke").hint == ""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 256.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.10 GB, other allocations: 1.2 GB)"),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error: BaseException) -> None:
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not out_of_memory(ValueError("out of memory"))


def test_memory_that_ran_out_on_the_processor_is_told_as_pytorch_says_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)
