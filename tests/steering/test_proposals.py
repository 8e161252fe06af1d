"""What is proposed for spans of a file: nothing changes before an accept, and nothing that was proposed is lost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import WORDS, ScriptedBackend

from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.document.buffer import Buffer
from dgtui.document.source import of_bytes
from dgtui.errors import DocumentRefused, InputRefused
from dgtui.steering.infill import Infill, Proposal
from dgtui.steering.proposals import InfillSearch, Passage, Passages, Review, joined
from dgtui.worker import Run

SETTINGS = SamplerSettings(steps=8, entropy_bound=0.5)
TEXT = "One day the fox sat by the river and the hare stood by the lake."


class Speller(ScriptedBackend):
    """A scripted model whose words have the blank before them, as tokens have."""

    def pieces(self, ids: object) -> list[bytes]:
        return [b"" if i < 3 else b" " + WORDS[i - 3].encode() for i in ids]  # type: ignore[attr-defined]


def buffer_of(text: str, encoding: str = "utf-8") -> Buffer:
    return Buffer(of_bytes(text.encode(encoding), encoding))


def proposal(*texts: str, score: float = 0.5) -> Proposal:
    return Proposal(texts, score, 3, 8, 1, 0.1, 7)


def span_of(buffer: Buffer, text: str) -> tuple[int, int]:
    start = buffer.data.index(text.encode(buffer.encoding))
    return start, start + len(text.encode(buffer.encoding))


def reviewed(buffer: Buffer, old: str, *texts: str) -> Review:
    passage = Passage(buffer, [span_of(buffer, old)])
    passage.add([proposal(text) for text in texts])
    return Review(passage)


@pytest.fixture
def backend() -> Speller:
    speller = Speller()
    speller.load(None, lambda _: None).result()
    return speller


def search(passage: Passage, backend: ScriptedBackend, instruction: str | None = None) -> InfillSearch:
    """A search; any of its runs ends within a step once the search is stopping."""
    assert backend.facts is not None
    infill = Infill(passage.parts(), backend, backend.facts.model, SETTINGS, 3, instruction=instruction)

    def submit(job: Job) -> Run:
        return backend.submit(job, lambda run, upto: run.control.cancel() if found.stopping and upto > 20 else None)

    found = InfillSearch(passage, infill, submit)
    return found


# Accepting and rejecting


def test_nothing_changes_before_an_accept() -> None:
    buffer = buffer_of(TEXT)
    review = reviewed(buffer, "fox sat", "hare sat", "fox ran")
    review.move(1)
    review.passage.cycle(1)
    Review(review.passage)
    assert buffer.data == TEXT.encode()
    assert not buffer.changed
    assert buffer.undo() is None


def test_a_rejected_proposal_leaves_every_byte() -> None:
    buffer = buffer_of(TEXT)
    review = reviewed(buffer, "fox sat by the river", "hare ran by a river")
    review.reject()
    review.reject_all()
    assert not review.open
    assert buffer.data == TEXT.encode()
    assert not buffer.changed


def test_each_accept_is_one_undo_step() -> None:
    buffer = buffer_of(TEXT)
    review = reviewed(buffer, "the fox sat by the river", "a fox ran by a sea")
    assert len(review.changes) >= 3
    review.accept()
    assert buffer.data == TEXT.replace("the fox", "a fox", 1).encode()
    review.accept_all()
    assert buffer.data == TEXT.replace("the fox sat by the river", "a fox ran by a sea").encode()
    buffer.undo()
    assert buffer.data == TEXT.replace("the fox", "a fox", 1).encode()
    buffer.undo()
    assert buffer.data == TEXT.encode()
    assert buffer.undo() is None
    buffer.redo()
    buffer.redo()
    assert buffer.data == TEXT.replace("the fox sat by the river", "a fox ran by a sea").encode()


def test_the_same_text_is_no_change_and_cannot_be_accepted() -> None:
    buffer = buffer_of(TEXT)
    review = reviewed(buffer, "fox sat", "fox sat")
    assert review.changes == [] and review.current is None
    review.accept()
    review.accept_all()
    assert buffer.undo() is None


def test_keys_go_from_change_to_change_and_stay_at_the_ends() -> None:
    review = reviewed(buffer_of(TEXT), "the fox sat by the river", "a fox ran by a sea")
    review.move(-1)
    assert review.at == 0
    for _ in range(9):
        review.move(1)
    assert review.at == len(review.changes) - 1
    review.reject()
    assert review.current is review.changes[-2]
    review.move(-1)
    review.accept()
    assert review.current is not None and review.current.state == "open"


def test_what_the_encoding_cannot_write_is_refused_and_nothing_changes() -> None:
    buffer = buffer_of("a caf\u00e9 by the river", "latin-1")
    review = reviewed(buffer, "caf\u00e9 by", "a \u4e16 in")
    with pytest.raises(DocumentRefused):
        review.accept_all()
    assert buffer.data == "a caf\u00e9 by the river".encode("latin-1")
    assert review.open == review.changes
    assert buffer.undo() is None


def test_a_passage_is_where_it_was_after_an_accept_that_was_undone_and_an_edit_elsewhere() -> None:
    buffer = buffer_of("aaaa bbbb cc dddd")
    passage = Passage(buffer, [(5, 12)])
    passage.add([proposal("bbbb")])
    Review(passage).accept_all()
    assert passage.spans == ((5, 9),)
    buffer.undo()
    assert passage.spans == ((5, 12),)
    buffer.redo()
    assert passage.spans == ((5, 9),)
    buffer.undo()
    buffer.replace(0, 0, b"x")
    assert passage.spans == ((6, 13),)


def test_line_breaks_that_stay_keep_their_own_bytes() -> None:
    buffer = buffer_of("one\r\ntwo fox\nthree\r\nfour\r\n")
    start, end = 0, len(buffer.data)
    passage = Passage(buffer, [(start, end)])
    passage.add([proposal("one\ntwo hare\nthree\nfive\nfour\n")])
    review = Review(passage)
    review.accept_all()
    assert buffer.data == b"one\r\ntwo hare\nthree\r\nfive\r\nfour\r\n"


WORD = st.sampled_from("fox hare river é 世 the\tlake sat".split(" "))
BREAK = st.sampled_from([" ", "\n", "\r\n", "  ", "\u2028", "\x0c"])
PROSE = st.lists(st.tuples(WORD, BREAK), min_size=1, max_size=30).map(lambda p: "".join(w + b for w, b in p))


@given(PROSE, st.lists(PROSE, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_order_of_accepts_changes_the_spans_and_nothing_else(
    text: str, written: list[str], chance: random.Random
) -> None:
    buffer = buffer_of(text)
    cuts = sorted(chance.sample(range(len(text) + 1), k=min(2 * len(written), (len(text) + 1) // 2 * 2)))
    spans = [(len(text[:a].encode()), len(text[:b].encode())) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    if len(joined(spans)) < len(spans):
        return
    passage = Passage(buffer, spans)
    texts = tuple(written[: len(spans)])
    passage.add([proposal(*(t.replace("\r\n", "\n") for t in texts))])
    review = Review(passage)
    held = _held(buffer.data, spans)
    for _ in range(len(review.changes)):
        open_before = len(review.open)
        review.at = chance.choice([at for at, change in enumerate(review.changes) if change.state == "open"])
        review.accept() if chance.random() < 0.7 else review.reject()
        assert len(review.open) == open_before - 1
        assert passage.spans is not None
        assert _held(buffer.data, passage.spans) == held
    if all(change.state == "accepted" for change in review.changes):
        shown = [buffer.text(*span).replace("\r\n", "\n") for span in passage.spans or ()]
        assert shown == [t.replace("\r\n", "\n") for t in texts[: len(spans)]]
    while buffer.undo():
        pass
    assert buffer.data == text.encode()
    assert passage.spans == tuple(spans)


def _held(data: bytes, spans: object) -> list[bytes]:
    edges = [0, *(edge for span in spans for edge in span), len(data)]  # type: ignore[attr-defined]
    return [data[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


# What is kept


def test_proposals_of_all_runs_are_kept_and_turn_round() -> None:
    buffer = buffer_of(TEXT)
    passage = Passage(buffer, [span_of(buffer, "fox")])
    passage.add([proposal("hare"), proposal("otter")])
    passage.add([proposal("bell"), proposal("hare")])
    assert [o.texts for o in passage.proposals] == [("hare",), ("otter",), ("bell",)]
    assert passage.proposal is passage.proposals[2], "the first of the newest run is shown"
    passage.cycle(1)
    assert passage.proposal is passage.proposals[0]
    passage.cycle(-1)
    assert passage.proposal is passage.proposals[2]


def test_proposals_are_found_again_after_an_accept_and_after_its_undo() -> None:
    buffer = buffer_of(TEXT)
    passages = Passages(buffer)
    passage = passages.of([span_of(buffer, "fox")])
    passage.add([proposal("old hare"), proposal("otter")])
    Review(passage).accept_all()
    assert passages.near(*span_of(buffer, "old hare")) is passage
    passage.cycle(1)
    Review(passage).accept_all()
    assert buffer.data == TEXT.replace("fox", "otter", 1).encode()
    buffer.undo()
    buffer.undo()
    assert passages.of([span_of(buffer, "fox")]) is passage
    assert buffer.data == TEXT.encode()


def test_an_inserted_text_is_its_passage_and_gone_after_undo() -> None:
    buffer = buffer_of(TEXT)
    passages = Passages(buffer)
    passage = passages.of([(8, 8)])
    passage.add([proposal("big ")])
    Review(passage).accept_all()
    assert passage.spans == ((8, 12),)
    buffer.undo()
    assert passage.spans == ((8, 8),)


def test_spans_that_touch_are_one() -> None:
    assert joined([(8, 12), (3, 5), (5, 7), (9, 10)]) == [(3, 7), (8, 12)]


def test_what_was_edited_since_is_not_found() -> None:
    buffer = buffer_of(TEXT)
    passages = Passages(buffer)
    start, end = span_of(buffer, "fox sat")
    passage = passages.of([(start, end)])
    passage.add([proposal("hare")])
    buffer.replace(start + 1, start + 2, b"a")
    assert passage.spans is None
    assert passages.near(start, end) is None


# Searches


def test_a_search_ends_in_proposals_for_every_span(backend: Speller) -> None:
    buffer = buffer_of(TEXT)
    passage = Passage(buffer, [span_of(buffer, "fox sat"), span_of(buffer, "stood")])
    found = search(passage, backend)
    found.finish()
    proposals = found.plan.proposals
    assert proposals and all(len(p.texts) == 2 for p in proposals)
    assert proposals[0].seed == 3 and proposals[0].lengths > 1 and proposals[0].steps == found.steps > 0
    assert not any(p.stopped for p in proposals)
    passage.add(proposals)
    Review(passage).accept_all()
    assert _held(buffer.data, passage.spans) == [b"One day the ", b" by the river and the hare ", b" by the lake."]


@pytest.mark.parametrize("nth", [0, 1])
def test_a_search_that_is_stopped_proposes_what_is_written(backend: Speller, nth: int) -> None:
    buffer = buffer_of(TEXT)
    found = search(Passage(buffer, [span_of(buffer, "fox sat by the river")]), backend)
    found.stopping = nth == 0
    found.start()
    while not found.done:
        found.stopping = len(backend.runs) > nth
        found.advance()
    assert len(backend.runs) == nth + 1
    assert 1 <= len(found.plan.proposals) <= 3 and all(p.stopped for p in found.plan.proposals)
    assert buffer.data == TEXT.encode()


def test_a_search_that_is_stopped_before_its_first_step_proposes_nothing(backend: Speller) -> None:
    buffer = buffer_of(TEXT)
    found = search(Passage(buffer, [span_of(buffer, "fox")]), backend)
    backend.step_gate.close()
    found.start()
    found.stop()
    backend.step_gate.open()
    assert not found.advance()
    assert found.done and found.plan.proposals == []


def test_an_instruction_is_in_the_prompt_and_in_the_proposals(backend: Speller) -> None:
    buffer = buffer_of(TEXT)
    found = search(Passage(buffer, [span_of(buffer, "fox")]), backend, "say hello")
    found.finish()
    assert found.plan.proposals[0].instruction == "say hello"
    shown = b"".join(backend.pieces(backend.jobs[0].prompt_ids))
    assert b"say hello" in shown or b"hello" in shown


def test_a_passage_that_is_gone_cannot_be_written(backend: Speller) -> None:
    buffer = buffer_of(TEXT)
    passage = Passage(buffer, [span_of(buffer, "fox")])
    buffer.replace(*span_of(buffer, "day the fox"), b"")
    with pytest.raises(InputRefused):
        search(passage, backend)
