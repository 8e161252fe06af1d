"""Bytes outside of an edit never change, and every state comes back: in all encodings, with all kinds of endings."""

import itertools
import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgtui.document.buffer import Anchor, Buffer
from dgtui.document.source import of_bytes
from dgtui.document.undo import PAUSE
from dgtui.errors import DocumentRefused

COMMON = ["a", "b c", "\\", "|", "~", "\n", "\r\n", "\r", "\f", "\v", "\x1b[0m", "\t"]
OWN = {
    "utf-8": ["ü", "だ", "😀", "e\u0301", "\x85", "\u2028", "\ufeff"],
    "cp1252": ["ü", "€", "”"],
    "shift_jis": ["表", "ソ", "ｱ"],
    "gbk": ["汉", "丂"],
    "gb18030": ["汉", "ü", "😀", "丂"],
    "euc_kr": ["한", "뷁"],
    "euc_jp": ["表", "ｱ", "丂"],
}


@dataclass
class Text:
    """A text as a test sees it: characters, of which it knows the bytes."""

    encoding: str
    mark: bytes
    text: str

    @property
    def data(self) -> bytes:
        return self.mark + self.text.encode(self.encoding)

    def at(self, character: int) -> int:
        return len(self.mark) + len(self.text[:character].encode(self.encoding))

    def buffer(self) -> Buffer:
        return Buffer(of_bytes(self.data, self.encoding))


def pieces(encoding: str, longest: int = 30) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(COMMON + OWN[encoding]), max_size=longest).map("".join)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    encoding = draw(st.sampled_from(sorted(OWN)))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) if encoding == "utf-8" else b""
    text = draw(pieces(encoding))
    return Text(encoding, mark, text.removeprefix("\ufeff") if not mark else text)


def span(draw: st.DrawFn, text: Text) -> tuple[int, int]:
    low, high = sorted(draw(st.tuples(*[st.integers(0, len(text.text))] * 2)))
    return low, high


def opened(data: bytes, encoding: str = "utf-8") -> Buffer:
    return Buffer(of_bytes(data, encoding))


def typed(buffer: Buffer, offset: int, keys: str) -> None:
    for n, key in enumerate(keys):
        buffer.replace(offset + n, offset + n, key.encode(), typing=True)


@given(st.data(), texts())
@settings(deadline=None)
def test_bytes_outside_of_an_edit_are_untouched_and_lines_are_right(data: st.DataObject, text: Text) -> None:
    buffer = text.buffer()
    for _ in range(data.draw(st.integers(0, 6))):
        start, end = span(data.draw, text)
        new = data.draw(pieces(text.encoding, 4))
        before, low, high = buffer.data, text.at(start), text.at(end)
        edit = buffer.replace(low, high, new.encode(text.encoding))
        text.text = text.text[:start] + new + text.text[end:]
        assert (edit.start, edit.old, edit.new) == (low, before[low:high], new.encode(text.encoding))
        assert buffer.data == before[:low] + edit.new + before[high:] == text.data
        lines = re.split("(\r?\n)", text.text)
        assert [buffer.line(n) for n in range(buffer.lines)] == lines[::2]
        assert [buffer.ending_of(n).decode() for n in range(buffer.lines)] == [*lines[1::2], ""]
        assert (
            b"".join(buffer.data[slice(*buffer.line_span(n))] + buffer.ending_of(n) for n in range(buffer.lines))
            == (buffer.data[buffer.first :])
        )


@given(st.data(), texts())
@settings(deadline=None)
def test_spans_accepted_in_any_order_give_the_same_file(data: st.DataObject, text: Text) -> None:
    buffer = text.buffer()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text.text)), max_size=8)))
    ends = [0, *cuts, len(text.text)]
    parts = [text.text[low:high].encode(text.encoding) for low, high in itertools.pairwise(ends)]
    anchors = [buffer.anchor(text.at(low), text.at(high)) for low, high in itertools.pairwise(cuts)]
    for n in data.draw(st.permutations(range(len(anchors)))):
        if data.draw(st.booleans()):
            new = data.draw(pieces(text.encoding, 4)).encode(text.encoding)
            assert anchors[n].alive
            assert buffer.data[anchors[n].start : anchors[n].end] == parts[n + 1]
            edit = buffer.replace(anchors[n].start, anchors[n].end, new)
            assert anchors[n].alive == (edit.old == edit.new)
            parts[n + 1] = new
    assert buffer.data == text.mark + b"".join(parts)
    while buffer.undo():
        pass
    assert buffer.data == text.data and not buffer.changed
    assert [(a.start, a.end, a.alive) for a in anchors] == [
        (text.at(low), text.at(high), True) for low, high in itertools.pairwise(cuts)
    ]


@given(st.data(), texts())
@settings(deadline=None)
def test_undo_and_redo_walk_through_the_states(data: st.DataObject, text: Text) -> None:
    buffer = text.buffer()
    anchors: list[Anchor] = []

    def state() -> tuple[bytes, int, list[str]]:
        return buffer.data, buffer.version, [buffer.line(n) for n in range(buffer.lines)]

    states, now, saved = [state()], 0, state()
    places: dict[tuple[int, Anchor], tuple[int, int, bool]] = {}
    for action in data.draw(st.lists(st.sampled_from("edit group undo redo save anchor".split()), max_size=12)):
        before = buffer.data
        match action:
            case "edit" | "group":
                with buffer.group():
                    for _ in range(1 if action == "edit" else 3):
                        text.text = buffer.data[buffer.first :].decode(text.encoding)
                        start, end = span(data.draw, text)
                        new = data.draw(pieces(text.encoding, 3)).encode(text.encoding)
                        buffer.replace(text.at(start), text.at(end), new)
                if buffer.version != states[now][1]:
                    states[now + 1 :], now = [state()], now + 1
            case "undo" | "redo":
                step = -1 if action == "undo" else 1
                changed = buffer.undo() if action == "undo" else buffer.redo()
                assert (changed is not None) == (0 <= now + step < len(states))
                if changed:
                    now += step
                    low, high = changed
                    after = len(buffer.data) - high
                    assert buffer.data[:low] == before[:low] and buffer.data[high:] == before[len(before) - after :]
                    buffer.place(low), buffer.place(high)
            case "save":
                buffer.saved()
                saved = states[now]
            case "anchor":
                text.text = buffer.data[buffer.first :].decode(text.encoding)
                start, end = span(data.draw, text)
                anchors.append(buffer.anchor(text.at(start), text.at(end)))
        assert state() == states[now]
        assert buffer.changed == (states[now][1] != saved[1])
        for a in anchors:
            place = a.start, a.end, a.alive
            assert places.setdefault((buffer.version, a), place) == place
            assert buffer.first <= a.start <= a.end <= len(buffer.data)


@given(st.data(), texts())
@settings(deadline=None)
def test_what_was_done_can_be_done_again_to_the_file_that_was_read(data: st.DataObject, text: Text) -> None:
    buffer, again = text.buffer(), text.buffer()
    seen = 0
    for action in data.draw(st.lists(st.sampled_from("edit undo redo look".split()), max_size=10)):
        text.text = buffer.data[buffer.first :].decode(text.encoding)
        if action == "edit":
            start, end = span(data.draw, text)
            buffer.replace(text.at(start), text.at(end), data.draw(pieces(text.encoding, 3)).encode(text.encoding))
        elif action == "look":
            for edit in (edits := buffer.edits_since(seen)):
                again.replace(edit.start, edit.end, edit.new)
            seen += len(edits)
            assert again.data == buffer.data
        else:
            buffer.undo() if action == "undo" else buffer.redo()


@given(texts())
@settings(deadline=None)
def test_place_and_offset_are_inverse(text: Text) -> None:
    buffer = text.buffer()
    on_characters = {text.at(n) for n in range(len(text.text) + 1)}
    for offset in range(buffer.first, len(buffer.data) + 1):
        if offset not in on_characters:
            with pytest.raises(DocumentRefused, match="inside a character"):
                buffer.place(offset)
            with pytest.raises(DocumentRefused, match="inside a character"):
                buffer.replace(offset, offset, b"x")
        elif buffer.data[offset - 1 : offset + 1] == b"\r\n":
            assert buffer.offset(*buffer.place(offset)) == offset - 1
        else:
            assert buffer.offset(*buffer.place(offset)) == offset
    assert buffer.data == text.data


def test_only_lf_and_crlf_end_a_line() -> None:
    buffer = opened("a\r\nb\rc\fd\x0be\x85f\u2028g\u2029h\x1ci\nj".encode())
    assert [buffer.line(n) for n in range(buffer.lines)] == ["a", "b\rc\fd\x0be\x85f\u2028g\u2029h\x1ci", "j"]


def test_line_breaks_are_those_of_the_neighbourhood() -> None:
    buffer = opened(b"a\r\nb\r\nc\nd\ne")
    assert buffer.encode("x\ny\r\nz", near=0) == b"x\r\ny\r\nz"
    assert buffer.encode("x\ny\r\nz", near=7) == b"x\ny\nz"
    assert buffer.encode("x\ny", near=len(buffer.data)) == b"x\ny"
    assert opened(b"a\r\n").encode("\n", near=3) == b"\r\n"
    assert opened(b"").encode("\r\n", near=0) == b"\n"


def test_a_character_that_the_encoding_lacks_is_refused_by_name() -> None:
    with pytest.raises(DocumentRefused, match=r"'だ' \(U\+3060\) cannot be encoded in cp1252"):
        opened(b"abc", "cp1252").encode("aだ", near=0)
    with pytest.raises(DocumentRefused, match=r"U\+00A5"):  # it would be read as a backslash
        opened(b"abc", "shift_jis").encode("¥", near=0)
    for sign in "\0\ud800":
        with pytest.raises(DocumentRefused, match=r"U\+"):
            opened(b"abc").encode(sign, near=0)


@pytest.mark.parametrize("new", [b"\xff", b"\xe2\x82", b"a\0b", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_never_put_in(new: bytes) -> None:
    buffer = opened(b"abc")
    with pytest.raises(DocumentRefused):
        buffer.replace(1, 2, new)
    assert buffer.data == b"abc" and buffer.undo() is None


def test_a_bad_place_is_refused_and_says_what_there_is() -> None:
    buffer = opened("\ufeffab\ncd".encode())
    for line, column, hint in [
        (2, 0, "the last line is 2"),
        (-1, 0, "line is 2"),
        (0, 3, "column 3"),
        (1, -1, "column 3"),
    ]:
        with pytest.raises(DocumentRefused) as raised:
            buffer.offset(line, column)
        assert hint in raised.value.hint
    for start, end in [(0, 4), (2, 2), (3, 9), (5, 4), (-1, 3)]:
        with pytest.raises(DocumentRefused):
            buffer.replace(start, end, b"x")
        with pytest.raises(DocumentRefused):
            buffer.text(start, end)
        with pytest.raises(DocumentRefused):
            buffer.anchor(start, end)
    assert not buffer.changed


def test_what_is_there_already_is_no_change() -> None:
    buffer = opened(b"abc")
    edit = buffer.replace(1, 2, b"b")
    assert edit.old == edit.new and not buffer.changed and buffer.version == 0 and buffer.undo() is None


def test_anchors_leave_out_what_is_put_at_their_borders() -> None:
    buffer = opened(b"one two three")
    anchor = buffer.anchor(4, 7)
    buffer.replace(7, 7, b"!")
    buffer.replace(4, 4, b"?")
    buffer.replace(0, 3, b"a")
    assert anchor.alive and buffer.text(anchor.start, anchor.end) == "two"
    buffer.replace(anchor.start + 1, anchor.start + 1, b"w")
    assert not anchor.alive
    buffer.undo()
    assert anchor.alive and buffer.text(anchor.start, anchor.end) == "two"


def test_what_is_typed_in_one_go_is_one_step() -> None:
    now = 0.0
    buffer = Buffer(of_bytes(b"-"), clock=lambda: now)
    typed(buffer, 1, "one\ntwo")
    now += PAUSE + 0.1
    typed(buffer, 8, "more")
    buffer.replace(11, 12, b"", typing=True)
    buffer.replace(10, 11, b"", typing=True)
    typed(buffer, 0, "far")
    buffer.break_typing()
    typed(buffer, 3, "off")
    seen = [buffer.data]
    while buffer.undo():
        seen.append(buffer.data)
    assert seen == [
        b"faroff-one\ntwomo",
        b"far-one\ntwomo",
        b"-one\ntwomo",
        b"-one\ntwomore",
        b"-one\ntwo",
        b"-one",
        b"-",
    ]
    while buffer.redo():
        pass
    assert buffer.data == seen[0]


def test_typing_never_runs_into_what_is_saved_or_accepted() -> None:
    buffer = opened(b"")
    typed(buffer, 0, "ab")
    buffer.saved()
    typed(buffer, 2, "c")
    assert buffer.changed
    buffer.undo()
    assert buffer.data == b"ab" and not buffer.changed
    with buffer.group():
        buffer.replace(2, 2, b"!")
    typed(buffer, 3, "c")
    buffer.undo()
    assert buffer.data == b"ab!"


def test_a_new_edit_ends_what_could_be_redone() -> None:
    buffer = opened(b"a")
    buffer.replace(1, 1, b"b")
    buffer.undo()
    buffer.replace(1, 1, b"c")
    assert buffer.redo() is None and buffer.data == b"ac"


def test_undo_and_redo_tell_all_that_they_changed() -> None:
    for order in itertools.permutations([(0, 1, b"first"), (4, 7, b""), (8, 8, b"x")]):
        buffer = opened(b"one two three")
        anchors = [(buffer.anchor(start, end), new) for start, end, new in order]
        with buffer.group():
            for anchor, new in anchors:
                buffer.replace(anchor.start, anchor.end, new)
        assert buffer.data == b"firstne  xthree"
        assert buffer.undo() == (0, 8)
        assert buffer.redo() == (0, 10)


def test_a_group_that_fails_changes_nothing() -> None:
    buffer = opened(b"abc")
    buffer.replace(0, 0, b"x")
    buffer.undo()
    anchor = buffer.anchor(0, 1)
    with pytest.raises(DocumentRefused), buffer.group():
        buffer.replace(0, 1, b"12", typing=True)
        with buffer.group():
            buffer.replace(3, 4, b"3")
        buffer.replace(0, 1, b"\xff")
    assert buffer.data == b"abc" and not buffer.changed and anchor.alive
    assert buffer.undo() is None
    assert buffer.redo() == (0, 1) and buffer.data == b"xabc"
