"""A conversation in memory is the conversation in the store, and its prompt fits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dgtui.diffusion.image import Image
from dgtui.errors import PromptTooLong
from dgtui.message import Message
from dgtui.session.chat import Chat, images_left, prompt
from dgtui.session.store import Attachment, Store, Turn


def words(messages: Sequence[Message]) -> list[int]:
    """A token a word, and one a turn."""
    return [len(word) for m in messages for word in (m.role, *m.content.split())]


def test_looking_around_stores_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    Chat(store, "a model")
    assert store.conversations() == []


def test_every_change_is_in_the_store_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model", "Be brief.")
    chat.add(Turn("user", "Why?"))
    chat.add(Turn("model", "", finished=False))
    chat.revise(Turn("model", "Because.", (5, 6), finished=True))
    chat.instruct("Be long.")
    assert chat.id is not None
    other = Store(tmp_path / "history.db")
    again = Chat.open(other, other.get(chat.id), "a model")
    assert again.turns == chat.turns == [Turn("user", "Why?"), Turn("model", "Because.", (5, 6))]
    assert again.system == "Be long."


def test_what_is_regenerated_is_superseded_and_the_talk_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model")
    for turn in (Turn("user", "One?"), Turn("model", "First."), Turn("user", "Two?"), Turn("model", "Second.")):
        chat.add(turn)
    assert chat.rewind(1) == [Turn("model", "First."), Turn("user", "Two?"), Turn("model", "Second.")]
    chat.add(Turn("model", "Another."))
    assert chat.id is not None
    assert [s.turn.text for s in store.turns(chat.id)] == ["One?", "Another."]
    chat.revise(Turn("model", "Another one."))
    assert [s.turn.text for s in store.turns(chat.id)] == ["One?", "Another one."]


def test_a_window_takes_back_its_own_turns_and_no_others(tmp_path: Path) -> None:
    ours, theirs = Store(tmp_path / "history.db"), Store(tmp_path / "history.db")
    chat = Chat(ours, "a model")
    for text in ("zero", "one"):
        chat.add(Turn("user", text))
    assert chat.id is not None
    other = Chat.open(theirs, theirs.get(chat.id), "a model")
    for text in ("two", "three"):
        chat.add(Turn("user", text))
    for text in ("other two", "other three"):
        other.add(Turn("user", text))
    assert [turn.text for turn in chat.rewind(2)] == ["two", "three"]
    kept = ["zero", "one", "other two", "other three"]
    assert [(s.position, s.turn.text) for s in ours.turns(chat.id)] == [*enumerate(kept)]
    other.rewind(3)
    chat.add(Turn("user", "again two"))
    assert [s.turn.text for s in ours.turns(chat.id)] == ["zero", "one", "other two", "again two"]


def test_turns_of_another_window_are_counted_once(tmp_path: Path) -> None:
    ours, theirs = Store(tmp_path / "history.db"), Store(tmp_path / "history.db")
    chat = Chat(ours, "a model")
    assert chat.added_elsewhere() == 0
    chat.add(Turn("user", "zero"))
    assert chat.id is not None
    other = Chat.open(theirs, theirs.get(chat.id), "a model")
    assert chat.added_elsewhere() == other.added_elsewhere() == 0
    for text in ("one", "two"):
        other.add(Turn("user", text))
    assert [chat.added_elsewhere() for _ in range(2)] == [2, 0]


def test_a_first_message_that_is_taken_back_leaves_no_conversation(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model")
    chat.add(Turn("user", "One?"))
    chat.rewind(0)
    assert store.conversations() == []
    chat.add(Turn("user", "Two?"))
    assert [(c.title, c.turns) for c in store.conversations()] == [("Two?", 1)]


def test_a_conversation_with_a_title_of_its_own_stays_without_turns(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model")
    chat.add(Turn("user", "One?"))
    assert chat.id is not None
    store.rename(chat.id, "mine")
    chat.rewind(0)
    chat.add(Turn("user", "Two?"))
    assert [(c.title, c.turns) for c in store.conversations()] == [("mine", 1)]


def test_changed_sampler_settings_are_kept_with_the_conversation(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model")
    chat.set_settings({"steps": 5})
    chat.add(Turn("user", "One?"))
    assert chat.id is not None
    assert Chat.open(store, store.get(chat.id), "a model").settings == {"steps": 5}
    chat.set_settings({"t_min": 0.2})
    assert Chat.open(store, store.get(chat.id), "a model").settings == {"t_min": 0.2}


def test_settings_of_another_program_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    conversation = store.create("a model", "", {"max_steps": 48, "steps": 7})
    assert Chat.open(store, store.get(conversation), "a model").settings == {"steps": 7}


def test_the_model_hears_system_prompt_and_turns_with_the_ids_it_wrote() -> None:
    chat = Chat(Store(None), "a model", "Be brief.")
    for turn in (Turn("user", "Why?"), Turn("model", "Because.", (5, 6)), Turn("user", "And?"), Turn("model", "")):
        chat.add(turn)
    assert chat.messages() == [
        Message("system", "Be brief."),
        Message("user", "Why?"),
        Message("model", "Because.", (5, 6)),
        Message("user", "And?"),
    ]


def test_a_full_context_drops_whole_turns_from_the_start_and_says_how_many() -> None:
    talk = [Message("system", "Be brief.")]
    for n in range(5):
        talk += [Message("user", f"question {n} of five"), Message("model", f"answer {n} of five")]
    talk.append(Message("user", "the last one"))
    ids, dropped = prompt(talk, words, 1000)
    assert (ids, dropped) == (words(talk), 0)
    ids, dropped = prompt(talk, words, 20)
    assert len(ids) <= 20
    assert dropped == 8
    assert ids == words([talk[0], *talk[1 + dropped :]])
    assert talk[1 + dropped].role == "user"


def test_a_long_conversation_is_encoded_a_few_times_to_find_what_fits() -> None:
    talk = [Message("user" if n % 2 == 0 else "model", f"turn {n}") for n in range(401)]
    calls = 0

    def counted(messages: Sequence[Message]) -> list[int]:
        nonlocal calls
        calls += 1
        return words(messages)

    for room in (3, 4, 9, 10, 300, 1199):
        calls = 0
        ids, dropped = prompt(talk, counted, room)
        assert calls <= 11
        assert ids == words(talk[dropped:]) and talk[dropped].role == "user"
        assert len(ids) <= room < len(words(talk[dropped - 2 :]))
    calls = 0
    with pytest.raises(PromptTooLong):
        prompt(talk, counted, 2)
    assert calls == 2


def test_a_message_that_does_not_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(PromptTooLong, match="has 6 tokens, but only 4 fit"):
        prompt([Message("user", "one two three four five")], words, 4)


def test_images_go_with_their_turns_and_are_left_out_with_them() -> None:
    one, two = (Image(np.zeros((4, 3), np.float32), np.zeros((4, 2), np.int32), tokens) for tokens in (1, 2))
    known = {Attachment("one.png", "1"): one, Attachment("two.png", "2"): two}
    gone = Attachment("gone.png", "3")
    chat = Chat(Store(None), "a model", "Be brief.")
    chat.add(Turn("user", "What?", images=(Attachment("one.png", "1"), gone)))
    chat.add(Turn("model", "A fox."))
    chat.add(Turn("user", "And?", images=(Attachment("two.png", "2"),)))
    assert chat.images() == [*[*known][:1], gone, *[*known][1:]]
    messages = chat.messages(known.get)
    assert [m.images for m in messages] == [(), (one,), (), (two,)]
    assert images_left(messages, 0) == (one, two)
    assert images_left(messages, 2) == (two,)
    assert [m.images for m in chat.messages()] == [()] * 4


def test_images_are_stored_as_files_and_digests(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    chat = Chat(store, "a model")
    turn = Turn("user", "What?", images=(Attachment("/a/one.png", "f00d"), Attachment("/a/two.png")))
    chat.add(turn)
    assert chat.id is not None
    again = Store(tmp_path / "history.db")
    assert Chat.open(again, again.get(chat.id), "a model").turns == [turn]
