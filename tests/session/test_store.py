"""Conversations: what was stored is there, in order, found again, and gone when deleted."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.errors import UsageError
from dgtui.session.records import storable
from dgtui.session.store import Attachment, Conversation, ConversationNotFound, Store, TextFile, Turn

many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
texts = st.text(st.characters(), max_size=40)  # surrogates and NUL too
HOSTILE = [
    '"',
    '""',
    "'",
    "*",
    "^",
    "(",
    ")",
    "{",
    "}",
    ":",
    "+",
    "-",
    ",",
    "NOT",
    "AND",
    "OR",
    "NEAR",
    "NEAR/2",
    "text",
]
HOSTILE += [
    "\0",
    "\n",
    " ",
    "\\",
    "%",
    "_",
    "é",
    "e\u0301",
    "河",
    "🏞",
    "\ud800",
    "a",
    "ab",
    "--",
    ";",
    "text:a",
    "\u200b",
]
hostile = st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join) | texts


def rewind(store: Store, conversation: str, position: int) -> bool:
    """Supersedes the turns from a position on; whether the conversation still exists."""
    return store.supersede(conversation, [turn.id for turn in store.turns(conversation)[position:]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(path)) as store:
        yield store


def said(store: Store, conversation: str) -> list[str]:
    return [stored.turn.text for stored in store.turns(conversation)]


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def check_index(path: Path) -> None:
    """Raises if the full-text index is not that of the tables."""
    with closing(sqlite3.connect(path)) as connection:
        for index in ("title_words", "turn_words"):
            connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# -- keeping ----------------------------------------------------------------------------------------------------------


turns = st.builds(
    Turn,
    role=st.sampled_from(["system", "user", "model"]),
    text=texts,
    token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=9).map(tuple),
    thought=texts,
    seed=st.none() | st.integers(0, 2**63 - 1),
    steps=st.integers(0, 10**6),
    stop_reason=st.sampled_from(["", "eos", "length", "cancelled"]),
    seconds=st.floats(0, 1e6),
    finished=st.booleans(),
    images=st.lists(st.builds(Attachment, texts, texts), max_size=2).map(tuple),
    files=st.lists(st.builds(TextFile, texts, texts.map(storable)), max_size=2).map(tuple),
)


@many
@given(st.lists(turns, max_size=4), st.lists(turns, min_size=4, max_size=4))
def test_turns_come_back_as_they_were(first: list[Turn], second: list[Turn]) -> None:
    def as_stored(turn: Turn) -> tuple[object, ...]:
        return (
            storable(turn.text),
            storable(turn.thought),
            turn.token_ids,
            turn.seed,
            turn.seconds,
            turn.images,
            turn.files,
            turn.role,
        )

    store = Store(None)
    conversation = store.create("m")
    ids = [store.append(conversation, turn) for turn in first]
    listed = store.turns(conversation)
    assert [as_stored(s.turn) for s in listed] == [as_stored(turn) for turn in first]
    assert [s.turn.finished for s in listed] == [turn.finished for turn in first]
    assert [(s.id, s.position) for s in listed] == list(zip(ids, range(len(first)), strict=True))
    for turn_id, turn in zip(ids, second, strict=False):
        store.update(turn_id, turn)
    assert [as_stored(s.turn) for s in store.turns(conversation)] == [as_stored(turn) for turn in second[: len(first)]]
    store.close()


def test_text_that_is_no_utf8_is_kept_as_far_as_it_can_be() -> None:
    assert storable("caf\udce9 \ud83d\ude00 ok") == "caf\ufffd \U0001f600 ok"


def test_another_program_sees_each_turn_at_once(store: Store, path: Path) -> None:
    conversation = store.create("m")
    store.append(conversation, Turn("user", "why do rivers meander?"))
    reply = store.append(conversation, Turn("model", "Wat", finished=False))
    with closing(Store(path)) as other:
        assert said(other, conversation) == ["why do rivers meander?", "Wat"]
        store.update(reply, Turn("model", "Water on the", finished=False))
        assert said(other, conversation)[1] == "Water on the"
        store.update(reply, Turn("model", "Water on the outside.", stop_reason="eos"))
        assert other.turns(conversation)[1].turn.finished


def test_token_ids_are_four_bytes_each(store: Store, path: Path) -> None:
    store.append(store.create("m"), Turn("model", "x", token_ids=(1, 258, 2**31 - 1)))
    assert rows(path, "SELECT token_ids FROM turns") == [(bytes.fromhex("01000000 02010000 ffffff7f"),)]


def test_what_a_conversation_is_about_is_kept(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    conversation = store.create("nano", "Be brief.", {"max_steps": 48, "nested": {"t": [0.1, None, True]}})
    kept = store.get(conversation)
    assert (kept.model, kept.system, kept.turns, kept.title) == ("nano", "Be brief.", 0, "")
    assert kept.settings == {"max_steps": 48, "nested": {"t": [0.1, None, True]}}
    assert before < kept.created == kept.updated <= datetime.now(UTC)
    store.set_system(conversation, "")
    store.set_settings(conversation, {"max_steps": 8})
    assert (store.get(conversation).system, store.get(conversation).settings) == ("", {"max_steps": 8})


def test_superseded_turns_are_not_listed_and_stay_in_the_file(store: Store, path: Path) -> None:
    conversation = store.create("m")
    for text in ("one", "two", "three"):
        store.append(conversation, Turn("user", text))
    rewind(store, conversation, 1)
    assert said(store, conversation) == ["one"]
    store.append(conversation, Turn("user", "deux"))
    assert [(s.position, s.turn.text) for s in store.turns(conversation)] == [(0, "one"), (1, "deux")]
    assert store.get(conversation).turns == 2
    kept = rows(path, "SELECT position, text FROM turns WHERE superseded IS NOT NULL ORDER BY id")
    assert kept == [(1, "two"), (2, "three")]


# -- titles and lists -------------------------------------------------------------------------------------------------


def test_the_title_is_the_beginning_of_the_first_message(store: Store) -> None:
    conversation = store.create("m")
    first = store.append(conversation, Turn("user", "\n\n  Why do\trivers\nmeander? " + "And then, what else? " * 9))
    store.append(conversation, Turn("model", "Water."))
    store.append(conversation, Turn("user", "and how long does it take?"))
    title = store.get(conversation).title
    assert title.startswith("Why do rivers meander? And")
    assert title.endswith("…") and len(title) <= 60
    store.update(first, Turn("user", "Why do lakes not?"))
    assert store.get(conversation).title == "Why do lakes not?"
    rewind(store, conversation, 0)
    store.append(conversation, Turn("user", "Lakes"))
    assert store.get(conversation).title == "Lakes"


def test_a_greeting_is_no_title_if_a_later_message_says_more(store: Store) -> None:
    conversation = store.create("m")
    store.append(conversation, Turn("user", "hi there"))
    assert store.get(conversation).title == "hi there"
    store.append(conversation, Turn("model", "Good day."))
    store.append(conversation, Turn("user", "Why do rivers meander?"))
    store.append(conversation, Turn("user", "And how long does that take?"))
    assert store.get(conversation).title == "Why do rivers meander?"


def test_a_title_that_was_given_stays(store: Store) -> None:
    conversation = store.create("m")
    store.rename(conversation, " river\nnotes ")
    store.append(conversation, Turn("user", "Why?"))
    assert store.get(conversation).title == "river notes"
    store.rename(conversation, "  ")
    assert store.get(conversation).title == "Why?"


def test_the_conversation_written_to_last_is_first(store: Store) -> None:
    one, two, three = (store.create("m") for _ in range(3))
    for conversation in (two, one, two):
        store.append(conversation, Turn("user", "x"))
    store.rename(one, "renaming is not writing")
    assert [c.id for c in store.conversations()] == [two, one, three]
    assert [c.id for c in store.conversations(limit=1)] == [two]


def test_the_conversation_to_go_on_with_has_turns(store: Store) -> None:
    assert store.latest() is None
    conversation = store.create("m")
    store.append(conversation, Turn("user", "x"))
    store.create("m")
    latest = store.latest()
    assert latest is not None and latest.id == conversation


def test_an_id_can_be_typed(store: Store) -> None:
    conversation = store.create("m")
    assert len(conversation) == 6 and conversation.isascii() and conversation.isalnum() and conversation.islower()
    for typed in (conversation, conversation[:3], conversation.upper(), f" {conversation} "):
        assert store.get(typed).id == conversation


def test_a_beginning_of_several_ids_names_them(store: Store) -> None:
    for conversation in ("zz2222", "zz3333"):
        store.append(conversation, Turn("user", "x"))
    with pytest.raises(ConversationNotFound, match=r"zz matches several conversations: zz(2222|3333), zz(2222|3333)$"):
        store.get("zz")
    assert store.get("zz2").id == "zz2222"


@pytest.mark.parametrize("typed", ["", " ", "%", "_", "______", "nothing", "é", "\udcff", "'", "*"])
def test_an_id_of_no_conversation_is_refused(store: Store, typed: str) -> None:
    store.create("m")
    with pytest.raises(UsageError) as refusal:
        store.get(typed)
    assert refusal.value.hint


def test_what_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(ConversationNotFound):
        store.turns("nothere")
    for change in (
        lambda: store.rename("nothere", "x"),
        lambda: store.supersede("nothere", [1]),
        lambda: store.set_system("nothere", "x"),
        lambda: store.update(1, Turn("user", "x")),
    ):
        with pytest.raises(ConversationNotFound):
            change()
    store.delete("nothere")  # as it should be
    assert store.conversations() == []


# -- search -----------------------------------------------------------------------------------------------------------


def found(store: Store, text: str, limit: int = 50) -> list[tuple[str, str]]:
    return [(hit.conversation.title if hit.turn_id is None else "", hit.snippet) for hit in store.search(text, limit)]


def test_all_words_are_found_in_any_order_and_the_last_one_by_its_beginning(store: Store) -> None:
    conversation = store.create("m")
    reply = store.append(conversation, Turn("model", "A river never flows quite straight."))
    store.append(conversation, Turn("model", "Nothing of that kind"))
    for text in ("river", "RIVER", "straight river", "flows riv", '"river"', "quite-straight", "river, never!"):
        assert [hit.turn_id for hit in store.search(text)] == [reply], text
    for text in ("riv flows", "river lake", "NOT nothing", "text:river kind", "", "  ", "\0"):
        assert store.search(text) == [], text


def test_accents_do_not_matter(store: Store) -> None:
    store.append(store.create("m"), Turn("model", "le café à côté"))
    assert store.search("CAFE cote") == store.search("cafe\u0301 côté") != []


def test_titles_are_found_and_come_first(store: Store) -> None:
    conversation = store.create("nano")
    store.append(conversation, Turn("model", "notes on rivers"))
    store.rename(conversation, "River notes")
    title, turn = store.search("notes")
    assert (title.turn_id, title.snippet) == (None, "River notes")
    assert isinstance(turn.turn_id, int) and turn.snippet == "notes on rivers"
    assert title.conversation == turn.conversation == store.get(conversation)


def test_the_newest_turns_come_first_up_to_the_limit(store: Store) -> None:
    ids = [store.append(store.create("m"), Turn("model", f"river {i}")) for i in range(9)]
    assert [hit.turn_id for hit in store.search("river", limit=4)] == ids[:-5:-1]


def test_parts_of_words_and_signs_are_found_where_no_words_are(store: Store) -> None:
    conversation = store.create("m")
    store.append(conversation, Turn("model", "x = a->b; f(100%)"))
    store.append(conversation, Turn("model", "河はまっすぐ流れない。"))
    for text in ("->", "100%", "(100", "A->B;", "まっすぐ", "流れ"):
        assert len(store.search(text)) == 1, text
    for text in ("%%", "_>", "<-"):
        assert store.search(text) == [], text


def test_a_snippet_is_a_short_line_around_the_match(store: Store) -> None:
    conversation = store.create("m")
    filler = "lorem\nipsum\tdolor <b>sit</b> " * 200
    store.append(conversation, Turn("model", filler + "the [bold]oxbow[/] lake " + filler))
    store.append(conversation, Turn("model", "ほ" * 900 + "河" + "は" * 900))
    store.append(conversation, Turn("model", "w" * 9000))
    for text, part in (("oxbow", "[bold]oxbow[/] lake"), ("河", "ほ河は"), ("www", "www")):
        (hit,) = store.search(text)
        assert part in hit.snippet and len(hit.snippet) <= 162 and "\n" not in hit.snippet and "\t" not in hit.snippet


def test_what_was_changed_rewound_or_deleted_is_found_no_more(store: Store, path: Path) -> None:
    one, two = store.create("m"), store.create("m")
    first = store.append(one, Turn("user", "rivers"))
    store.append(two, Turn("user", "rivers too"))
    assert len(store.search("rivers")) == 4  # titles too
    store.update(first, Turn("user", "lakes"))
    assert [hit.conversation.id for hit in store.search("rivers")] == [two, two]
    store.delete(two)
    assert store.search("rivers") == []
    store.rename(one, "lakes")
    rewind(store, one, 0)
    assert [hit.turn_id for hit in store.search("lakes")] == [None]
    store.rename(one, "seas")
    assert store.search("lakes") == []
    check_index(path)


@many
@given(hostile)
def test_no_text_is_syntax_to_the_search(text: str) -> None:
    with closing(Store(None)) as store:
        turn = store.append(store.create("m"), Turn("model", text))
        store.append(store.create("m"), Turn("user", "a text of another conversation"))
        hits = store.search(text)
        if text.strip() and "\0" not in text:
            assert turn in [hit.turn_id for hit in hits]  # every text finds itself


@pytest.mark.parametrize(
    ("text", "sought"),
    [
        ("Большой ПРИВЕТ всем", "ривет"),
        ("un cafe\u0301 noir", "café"),
        ("un café noir", "CAFE\u0301"),
        ("می‌خواهم بروم", "خواهم"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("สวัสดีชาวโลก", "ชาวโลก"),
        ("你好，世界", "世界"),
        ("שלום עולם", "עולם"),
    ],
)
def test_a_search_finds_words_and_their_parts_in_every_script(store: Store, text: str, sought: str) -> None:
    turn = store.append(store.create("m"), Turn("model", text))
    store.append(store.create("m"), Turn("user", "another text"))
    assert [hit.turn_id for hit in store.search(sought)] == [turn]


def test_a_whole_page_may_be_searched_for(store: Store) -> None:
    page = " ".join(f"w{i}" for i in range(5000))
    store.append(store.create("m"), Turn("model", page))
    assert len(store.search(page)) == 1
    assert store.search("other " + page) == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from("caurnd"), st.integers(0, 5), hostile), max_size=30), st.data())
def test_the_index_keeps_step_with_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("index") / "history.db"
    names: list[str] = []
    ids: list[int] = []
    with closing(Store(path)) as store:
        for what, which, text in steps:
            name = names[which % len(names)] if names else ""
            if what == "c" or not names:
                names.append(store.create(text))
            elif what == "a":
                ids.append(store.append(name, Turn("user" if which % 2 else "model", text)))
            elif what == "u" and ids:
                store.update(ids[which % len(ids)], Turn("user", text))
            elif what == "r":
                if not rewind(store, name, which):
                    names.remove(name)
                    ids = [i for (i,) in rows(path, "SELECT id FROM turns")]
            elif what == "n":
                store.rename(name, text)
            elif what == "d":
                store.delete(name)
                names.remove(name)
                ids = [i for (i,) in rows(path, "SELECT id FROM turns")]
        check_index(path)
        listed = {s.id: s.turn.text for name in names for s in store.turns(name)}
        for word in ("a", "ab", "text"):
            hits = {hit.turn_id for hit in store.search(word)} - {None}
            assert {i for i, text in listed.items() if word in text.lower().split()} <= hits <= set(listed)


# -- deleting ---------------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_not_left_in_the_file(store: Store, path: Path) -> None:
    secret = store.create("m")
    for i in range(30):
        file = TextFile("grue.txt", f"grue{i} " * 200)
        turn = store.append(secret, Turn("user", f"xyzzy{i} plugh{i} " * 40, thought="frobozz" * 9, files=(file,)))
        store.update(turn, Turn("user", f"plugh{i} xyzzy{i} " * 50))
    rewind(store, secret, 10)
    store.append(store.create("m"), Turn("user", "to be kept"))
    store.delete(secret)
    left = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    for word in (b"xyzzy", b"plugh", b"frobozz", b"grue", secret.encode()):
        assert word not in left.lower()
    assert b"to be kept" in left


def test_the_text_of_an_attached_file_is_stored_once_and_kept_while_a_turn_has_it(store: Store, path: Path) -> None:
    one, other = store.create("m"), store.create("m")
    turn = Turn("user", "see", files=(TextFile("a.txt", "the same"), TextFile("b.txt", "the same")))
    for conversation in (one, one, other):
        store.append(conversation, turn)
    assert rows(path, "SELECT text FROM texts") == [("the same",)]
    store.delete(one)
    assert store.turns(other)[0].turn == turn
    store.delete(other)
    assert rows(path, "SELECT text FROM texts") == []


def test_a_conversation_deleted_elsewhere_is_put_back_with_its_files(store: Store, path: Path) -> None:
    conversation = store.create("m")
    turn = Turn("user", "see", files=(TextFile("a.txt", "words"),))
    store.append(conversation, turn)
    with closing(Store(path)) as elsewhere:
        elsewhere.delete(conversation)
    store.append(conversation, Turn("model", "I see."))
    assert [stored.turn for stored in store.turns(conversation)] == [turn, Turn("model", "I see.")]


def test_a_conversation_deleted_elsewhere_is_put_back_by_the_next_turn(store: Store, path: Path) -> None:
    conversation = store.create("nano", "Be brief.", {"max_steps": 8})
    store.append(conversation, Turn("user", "why?"))
    store.rename(conversation, "mine")
    before = store.get(conversation)
    with closing(Store(path)) as other:
        other.delete(conversation)
        assert other.conversations() == []
    store.append(conversation, Turn("model", "because", token_ids=(7, 8)))
    assert said(store, conversation) == ["why?", "because"]
    after = store.get(conversation)
    assert (after.title, after.model, after.system, after.settings) == ("mine", "nano", "Be brief.", {"max_steps": 8})
    assert after.created == before.created
    check_index(path)


def test_a_reply_that_runs_while_its_conversation_is_deleted_elsewhere_is_kept(store: Store, path: Path) -> None:
    conversation = store.create("m")
    for text in ("one", "two", "three"):
        store.append(conversation, Turn("user", text))
    with closing(Store(path)) as again:
        store.turns(conversation)
        again.turns(conversation)
        rewind(store, conversation, 2)
        reply = store.append(conversation, Turn("model", "dra", finished=False))
        again.delete(conversation)
    store.update(reply, Turn("model", "draft, done"))
    assert [(s.position, s.turn.text) for s in store.turns(conversation)] == [
        (0, "one"),
        (1, "two"),
        (2, "draft, done"),
    ]
    store.update(reply, Turn("model", "draft, done."))
    assert said(store, conversation)[2] == "draft, done."


def test_two_programs_put_back_what_each_of_them_had(store: Store, path: Path) -> None:
    conversation = store.create("m")
    mine = store.append(conversation, Turn("user", "mine"))
    with closing(Store(path)) as second, closing(Store(path)) as third:
        second.turns(conversation)
        theirs = second.append(conversation, Turn("user", "theirs"))
        third.delete(conversation)
        second.update(theirs, Turn("user", "theirs, again"))
        third.delete(conversation)
        store.update(mine, Turn("user", "mine, again"))
        second.update(theirs, Turn("user", "theirs, at last"))
    assert said(store, conversation) == ["mine, again", "theirs, at last"]
    check_index(path)


def test_a_conversation_deleted_here_stays_deleted(store: Store) -> None:
    conversation = store.create("m")
    turn = store.append(conversation, Turn("user", "x"))
    store.delete(conversation)
    with pytest.raises(ConversationNotFound):
        store.update(turn, Turn("user", "y"))
    assert store.conversations() == []
    store.append(conversation, Turn("user", "typed after all"))
    assert said(store, conversation) == ["typed after all"]


def test_after_the_file_was_removed_nothing_open_is_lost(store: Store, path: Path) -> None:
    conversation = store.create("m")
    store.append(conversation, Turn("user", "one"))
    path.unlink()
    with closing(Store(path)) as other:
        other.append(other.create("m"), Turn("user", "of another program"))
        store.append(conversation, Turn("user", "two"))
        assert said(other, conversation) == ["one", "two"]
        assert len(other.conversations()) == 2
    check_index(path)


# -- walls ------------------------------------------------------------------------------------------------------------


def test_conversations_need_neither_model_nor_screen() -> None:
    code = "import json, sys, dgtui.session.store, dgtui.session.export; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "textual", "numpy", "transformers", "markdown_it"} & set(json.loads(done.stdout))


def test_a_conversation_is_plain_data(store: Store) -> None:
    conversation = store.get(store.create("m", settings={"a": 1}))
    assert isinstance(conversation, Conversation) and not hasattr(conversation, "__dict__")
