"""What `dgtui.errors` promises: every typed error leads to a documented exit code."""

import pytest

from dgtui import errors
from dgtui.errors import EXIT_CODES, DgtuiError

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
    error = errors.ModelNotFound("no checkpoint named x", hint="dgtui model list shows what there is")
    assert (str(error), error.message, error.hint) == (
        "no checkpoint named x",
        "no checkpoint named x",
        "dgtui model list shows what there is",
    )
    assert errors.RunFailed("it broke").hint == ""
