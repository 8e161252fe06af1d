"""Slash commands: what is one, and what is only a message that begins with a slash."""

import pytest

from dgtui.errors import UsageError
from dgtui.tui.commands import SLASHES, UnknownCommand, matching, parse, unescaped


@pytest.mark.parametrize("slash", SLASHES, ids=lambda slash: slash.name)
def test_every_command_parses_with_and_without_an_argument(slash: object) -> None:
    assert parse(f"/{slash.name}") == (slash, "")
    assert parse(f"/{slash.name}   a b \n") == (slash, "a b")


def test_upper_case_is_forgiven() -> None:
    found = parse("/Seed 4711")
    assert found is not None
    assert (found[0].name, found[1]) == ("seed", "4711")


def test_an_argument_may_have_several_lines() -> None:
    found = parse("/system You are terse.\nYou are kind.")
    assert found is not None
    assert found[1] == "You are terse.\nYou are kind."


@pytest.mark.parametrize("text", ["hello", "", " /seed", "//seed", "/etc/hosts is a file", "/usr/bin", "1/2"])
def test_a_message_is_no_command(text: str) -> None:
    assert parse(text) is None


def test_two_slashes_say_one() -> None:
    assert unescaped("//seed") == "/seed"
    assert unescaped("/etc/hosts") == "/etc/hosts"
    assert unescaped("hello") == "hello"


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UnknownCommand) as refused:
        parse("/sede 1")
    assert isinstance(refused.value, UsageError)
    assert refused.value.message == "there is no command /sede"
    assert "/seed" in refused.value.hint


@pytest.mark.parametrize("text", ["/", "/ x", "/qqqqqqqq", "/\x1b[2J"])
def test_what_resembles_nothing_is_told_where_the_list_is(text: str) -> None:
    with pytest.raises(UnknownCommand) as refused:
        parse(text)
    assert "/help" in refused.value.hint


def test_names_are_found_by_their_beginning_else_by_a_part() -> None:
    assert [slash.name for slash in matching("se")] == ["seed", "sessions", "settings", "search"]
    assert [slash.name for slash in matching("ssion")] == ["sessions"]
    assert len(matching("")) == len(SLASHES)
    assert matching("zzz") == []


def test_names_are_unique_and_helped() -> None:
    assert len({slash.name for slash in SLASHES}) == len(SLASHES)
    for slash in SLASHES:
        assert slash.help and not slash.help.endswith(".")
