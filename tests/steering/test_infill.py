"""Spans of a text as jobs: what is held is pinned, what comes back is text for the spans and nothing else."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgtui.diffusion.events import BlockFinished
from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.diffusion.log import RunLog
from dgtui.errors import InputRefused
from dgtui.model import catalog
from dgtui.model.loader import LoadedModel
from dgtui.model.parts import LoadOptions
from dgtui.model_info import ModelInfo
from dgtui.steering.infill import Infill, _lend
from dgtui.steering.lengths import CANDIDATES, PROBE_STEPS, TRIED
from dgtui.worker import Run, Worker

TALE = (
    "Mira was a brave fox who lived by the river and had a blue kite. One night the wind came in and carried off the "
    "kite. Then Tom the otter came along, and together they found the kite. "
)
SETTINGS = SamplerSettings(steps=6)
CANVAS = 256
SPAN = ("Mira was a brave", " fox", " who lived by the river.")


@pytest.fixture(scope="module")
def worker() -> Worker:
    worker = Worker()
    worker.load(catalog.resolve("embedded"), LoadOptions(device="cpu")).result()
    return worker


@pytest.fixture(scope="module")
def loaded(worker: Worker) -> LoadedModel:
    assert worker.loaded is not None
    return worker.loaded


def _info(loaded: LoadedModel) -> ModelInfo:
    tokenizer = loaded.tokenizer
    assert tokenizer.turn_end_id is not None and tokenizer.eos_id is not None
    specials = frozenset(tokenizer.special_ids)
    return ModelInfo(CANVAS, 4096, tokenizer.bos_id, tokenizer.turn_end_id, tokenizer.eos_id, loaded.stop_ids, specials)


def _infill(loaded: LoadedModel, *parts: str, **options: int) -> Infill:
    return Infill(parts, loaded.tokenizer, _info(loaded), SETTINGS, 3, **options)


def _run(worker: Worker, infill: Infill) -> list[Run]:
    runs = []
    while (job := infill.job()) is not None:
        run = worker.submit(job)
        run.wait()
        infill.take(run.log)
        runs.append(run)
    return runs


@pytest.fixture(scope="module")
def searched(worker: Worker, loaded: LoadedModel) -> tuple[Infill, list[Run]]:
    """A search for the length of one span, to its end."""
    infill = _infill(loaded, *SPAN)
    return infill, _run(worker, infill)


def _held(loaded: LoadedModel, job: Job, candidate: int) -> bytes:
    """What is pinned on a canvas, gaps left out."""
    start = job.starts[candidate]
    assert start.ids is not None
    return b"".join(loaded.tokenizer.pieces([start.ids[place] for place in sorted(start.pinned)]))


def test_lengths_are_tried_in_one_batch_and_the_best_are_carried_to_the_end(
    searched: tuple[Infill, list[Run]],
) -> None:
    infill, runs = searched
    probe, carried = (run.job for run in runs)
    assert (probe.candidates, probe.settings.steps) == (TRIED, PROBE_STEPS)
    assert (carried.candidates, carried.settings) == (CANDIDATES, SETTINGS)
    lengths = [CANVAS - len(start.pinned) for start in probe.starts]
    assert len(set(lengths)) == TRIED
    assert {CANVAS - len(start.pinned) for start in carried.starts} <= set(lengths)
    assert 1 <= len(infill.proposals) <= CANDIDATES
    assert infill.proposals == sorted(infill.proposals, key=lambda p: -p.likelihood)
    assert all(-math.inf < p.likelihood < 0 for p in infill.proposals)


def _read(log: RunLog, gaps: list[range], likeliest: int) -> RunLog:
    """The log, but every id in a gap has -2 nats, whatever its length, and each of the four behind it -1, but the first
    of those has 0 where the candidate is the likeliest."""
    events = []
    for event in log:
        if isinstance(event, BlockFinished):
            gap = gaps[event.candidate]
            log_probs = np.zeros(CANVAS, np.float32)
            log_probs[gap.start : gap.stop] = -2
            log_probs[gap.stop : gap.stop + 4] = -1
            log_probs[gap.stop] += event.candidate == likeliest
            event = replace(event, log_probs=log_probs)
        events.append(event)
    return RunLog(log.job, events)


@pytest.mark.parametrize("likeliest", [0, 4, TRIED - 1])
def test_lengths_are_ranked_by_how_the_whole_text_reads(
    likeliest: int, searched: tuple[Infill, list[Run]], loaded: LoadedModel
) -> None:
    infill, (run, *_) = _infill(loaded, *SPAN), searched[1]
    job = infill.job()
    assert job is not None and job.likelihood and job.starts == run.job.starts
    gaps = [infill.search.gaps(candidate)[0] for candidate in range(job.candidates)]
    infill.take(_read(run.log, gaps, likeliest))
    carried = infill.job()
    assert carried is not None
    lengths = [CANVAS - len(start.pinned) for start in carried.starts]
    assert lengths[0] == len(gaps[likeliest])
    others = sorted(len(gap) for gap in gaps if gap is not gaps[likeliest])
    assert lengths[1:] == others[: CANDIDATES - 1], "equally likely: shorter ones first"


def test_what_was_stopped_is_ranked_by_how_sure_the_model_was(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", " fox", " who lived.", length=5)
    job = infill.job()
    assert job is not None
    run = worker.submit(job, lambda run, upto: run.control.cancel() if run.log.frames() else None)
    run.wait()
    infill.stop(run.log)
    assert infill.proposals == sorted(infill.proposals, key=lambda p: -p.score)
    assert {p.likelihood for p in infill.proposals} == {-math.inf}


@pytest.mark.slow
def test_where_nothing_was_before_lengths_are_tried_twice(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", "", " who lived by the river.")
    jobs = [run.job for run in _run(worker, infill)]
    spread, near, *written = (sorted({CANVAS - len(start.pinned) for start in job.starts}) for job in jobs)
    assert len(spread) == len(near) == TRIED and max(spread) > TRIED
    assert len(set(near) & set(spread)) >= 2 and min(b - a for a, b in pairwise(near)) == 1
    assert {0} < set(written[0]) <= {0, *near}, "and nothing"
    assert len(written) <= 2 and {0} < set(written[-1]), "once more if a neighbour of the best was not among them"


def test_a_length_that_is_given_is_not_searched(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", "", " who lived by the river.", length=5, candidates=4)
    (run,) = _run(worker, infill)
    assert run.job.candidates == 4
    assert {CANVAS - len(start.pinned) for start in run.job.starts} == {5}


def test_both_sides_stand_on_the_canvas_and_the_end_is_said(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", " fox", " who lived.", length=2)
    job = infill.job()
    assert job is not None
    held = _held(loaded, job, 0)
    assert held.startswith(b"Mira was a brave who lived.")
    ids = job.starts[0].ids
    assert ids is not None
    assert ids.index(_info(loaded).turn_end_id) < len(ids)


def test_what_lies_far_to_the_left_is_in_the_prefix(loaded: LoadedModel) -> None:
    far = TALE * 8
    job = _infill(loaded, far, "", " The end.", length=4).job()
    assert job is not None
    prefix = b"".join(loaded.tokenizer.pieces(job.prompt_ids[1:]))
    assert len(prefix) > 400 and far.encode().startswith(prefix)
    assert _held(loaded, job, 0).startswith(far.encode()[len(prefix) :])


def test_a_long_right_side_is_cut_where_the_canvas_ends(loaded: LoadedModel) -> None:
    job = _infill(loaded, "Mira", "", " was" + TALE * 8, length=4).job()
    assert job is not None
    start = job.starts[0]
    assert start.ids is not None and len(start.ids) == CANVAS
    assert len(start.pinned) == CANVAS - 4


def test_a_span_longer_than_a_canvas_is_written_block_by_block(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", " fox", " who lived.", length=450, candidates=1)
    jobs = [run.job for run in _run(worker, infill)]
    assert len(jobs) == 3
    assert all(_held(loaded, job, 0).endswith(b" who lived.") is False for job in jobs[:-1])
    assert b" who lived." in _held(loaded, jobs[-1], 0)
    assert infill.proposals[0].tokens >= 450


def test_several_spans_go_in_one_canvas(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "Mira was a brave", " fox", " who lived by the", " river", ".", candidates=2)
    runs = _run(worker, infill)
    assert len(runs) == 2
    assert all(len(proposal.texts) == 2 for proposal in infill.proposals)


@pytest.mark.parametrize("parts", [("", "fox " * 100_000, ""), ("", "a", "fox " * 100_000, "b", "")])
def test_what_is_far_too_long_is_refused_before_it_is_encoded(loaded: LoadedModel, parts: tuple[str, ...]) -> None:
    class Counting:
        def encode(self, text: str) -> list[int]:
            assert len(text) < 100_000
            return loaded.tokenizer.encode(text)

        def pieces(self, ids: Sequence[int]) -> list[bytes]:
            return loaded.tokenizer.pieces(ids)

    with pytest.raises(InputRefused) as refused:
        Infill(parts, Counting(), _info(loaded), SETTINGS, 3)
    assert "at a time" in refused.value.hint


def test_spans_that_are_too_far_apart_are_refused_with_advice(loaded: LoadedModel) -> None:
    with pytest.raises(InputRefused) as refused:
        _infill(loaded, "Mira", " was", TALE * 8, " and", " Tom")
    assert "fewer" in refused.value.hint


def test_a_text_the_model_knows_nothing_of_gets_words_too(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "## Install\n\n", "Clone the repository first.", " Then run `make check`.\n")
    runs = _run(worker, infill)
    no_text = frozenset(loaded.tokenizer.special_ids) | loaded.stop_ids
    assert all(run.job.suppressed == no_text for run in runs)
    assert infill.proposals and all(proposal.texts[0].strip() for proposal in infill.proposals)


def test_a_reply_may_end_early_where_nothing_follows(loaded: LoadedModel) -> None:
    for after, ends in (("\n", True), (" And so on.", False)):
        job = _infill(loaded, "Once upon a time", " there was a fox.", after).job()
        assert job is not None
        assert job.suppressed.isdisjoint(loaded.stop_ids) == ends


def test_the_same_seed_makes_the_same_proposals(
    searched: tuple[Infill, list[Run]], worker: Worker, loaded: LoadedModel
) -> None:
    again = _infill(loaded, *SPAN)
    _run(worker, again)
    assert again.proposals == searched[0].proposals


TEXTS = st.text("ab \n", max_size=6)


@given(TEXTS, TEXTS, TEXTS)
def test_lending_blanks_changes_no_text(before: str, gap: str, after: str) -> None:
    (left, middle, right), [(lead, tail)] = _lend([before, gap, after])
    assert left + middle + right == before + gap + after
    written = lead + "xyz"  # what a model may write there
    assert before + written[len(lead) :] + tail + after == left + written + right


def test_a_blank_before_a_word_goes_with_the_word() -> None:
    assert _lend(["a ", "word", " b"]) == (["a", " word", " b"], [(" ", "")])
    assert _lend(["a ", "", "b"]) == (["a", "", " b"], [(" ", " ")])
    assert _lend(["a ", "word ", "b"]) == (["a", " word", " b"], [(" ", " ")])
    assert _lend(["a", "\nword", "\nb"]) == (["a", "\nword", "\nb"], [("", "")])


def test_line_breaks_at_the_end_of_a_span_are_kept() -> None:
    assert _lend(["a\n", "word\n", "b"]) == (["a\n", "word", "\nb"], [("", "\n")])
    assert _lend(["", "word.\n\n", ""]) == (["", "word.", "\n\n"], [("", "\n\n")])
    assert _lend(["a", "\n", "b"]) == (["a", "\n", "b"], [("", "")]), "nothing else is in it"


def test_a_rewritten_paragraph_keeps_its_line_break(worker: Worker, loaded: LoadedModel) -> None:
    infill = _infill(loaded, "", TALE.strip() + "\n", "", length=12)
    _run(worker, infill)
    assert all(proposal.texts[0].endswith("\n") for proposal in infill.proposals) and infill.proposals
