"""Hunks that may be accepted in any order, and a diff that reads well."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgtui.document.changes import Hunk, hunks

TEXTS = st.lists(
    st.sampled_from(
        ["the ", "stone", " ", ".", "\n", "\r\n", "\r", "ü", "だ", "e\u0301", "f(x)", "😀", "\u2028", "\t"]
    ),
    max_size=25,
).map("".join)


def apply(old: str, accepted: Iterable[Hunk], form: str = "{1}") -> str:
    """The old text with some of its hunks accepted; `form` says how a hunk is written, from old and new."""
    pieces, at = [], 0
    for hunk in sorted(accepted):
        pieces += old[at : hunk.start], form.format(hunk.old, hunk.new)
        at = hunk.end
    return "".join(pieces) + old[at:]


def shown(old: str, new: str) -> str:
    return apply(old, hunks(old, new), "[-{}-][+{}+]").replace("[--]", "").replace("[++]", "")


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_all_hunks_make_the_new_text_and_none_leave_the_old(old: str, new: str) -> None:
    found = hunks(old, new)
    assert apply(old, found) == new
    assert apply(old, []) == old
    assert bool(found) == (old != new)
    for hunk in found:
        assert hunk.old == old[hunk.start : hunk.end] and hunk.old != hunk.new


@given(TEXTS, TEXTS, st.data())
@settings(deadline=None)
def test_any_hunks_in_any_order_give_the_same_text(old: str, new: str, data: st.DataObject) -> None:
    found = hunks(old, new)
    assert all(a.end < b.start for a, b in itertools.pairwise(found))
    taken = [hunk for hunk in found if data.draw(st.booleans())]
    text, moved = old, list[Hunk]()
    for hunk in (order := data.draw(st.permutations(taken))):
        at = hunk.start + sum(len(other.new) - len(other.old) for other in moved if other.start < hunk.start)
        text = text[:at] + hunk.new + text[at + len(hunk.old) :]
        moved.append(hunk)
    assert text == apply(old, order) == apply(old, taken)


def test_the_same_text_has_no_hunks() -> None:
    assert hunks("a\r\nb", "a\r\nb") == []
    assert hunks("", "") == []


@pytest.mark.parametrize(
    ("old", "new", "diff"),
    [
        ("The quick brown fox", "The slow brown fox", "The [-quick-][+slow+] brown fox"),
        ("The fox", "The red fox", "The [+red +]fox"),
        ("quick brown fox", "slow red cat", "[-quick brown fox-][+slow red cat+]"),
        ("here, there", "now, then", "[-here, there-][+now, then+]"),
        ("cafe\u0301 Šárka", "cafe Šárka", "[-cafe\u0301-][+cafe+] Šárka"),
        ("今日は天気がいい", "今日は雨が降る", "今日は[-天気がいい-][+雨が降る+]"),
        ("one\ntwo\n", "uno\ndue\n", "[-one-][+uno+]\n[-two-][+due+]\n"),
        ("a b\r\nc\r\n", "a x\r\nc\r\n", "a [-b-][+x+]\r\nc\r\n"),
        ("end", "end\n", "end[+\n+]"),
    ],
)
def test_a_diff_reads_word_by_word(old: str, new: str, diff: str) -> None:
    assert shown(old, new) == diff


def test_very_long_runs_are_one_hunk_and_keep_their_surroundings() -> None:
    old, new = "stone " * 7000, "water " * 7000
    assert hunks(f"a\n{old}\nb", f"a\n{new}\nb") == [Hunk(2, 3 + len(old), f"{old}\n", f"{new}\n")]
