"""Steering: what each key asks of the model, and that no version is ever lost."""

from collections.abc import Mapping

import pytest
from scripted import CANVAS, EOS, IDS, TALE, TURN_END, ScriptedBackend

from dgtui.diffusion.log import RunLog
from dgtui.steering.doubts import Doubt
from dgtui.steering.drafts import SETTLING_STRENGTH, Draft, Kind, Refused, Version
from dgtui.steering.lengths import CANDIDATES, TRIED
from dgtui.steering.search import Search
from dgtui.worker import Run


class Steered:
    """A draft whose jobs are run to their end at once."""

    def __init__(self, seed: int = 1, template: Mapping[int, int] | None = None) -> None:
        self.backend = ScriptedBackend()
        facts = self.backend.load(None, lambda stage: None).result(10)
        self.draft = Draft(facts, facts.settings)
        self.run("reply", self.draft.first([2, 5], seed, 4 * CANVAS, template or {}))

    def run(self, kind: Kind, job: object, **kwargs: object) -> Version:
        run = self.backend.submit(job, lambda run, upto: None)  # type: ignore[arg-type]
        run.ended.result(20)
        return self.draft.add(kind, run, **kwargs)  # type: ignore[arg-type]

    def gap(self, at: int, length: int | None = None) -> Version:
        plan = self.draft.gap(0, at, length, 1)
        search = Search(plan, lambda job: self.backend.submit(job, lambda run, upto: None))
        search.start()
        version = self.draft.add_search("gap", search, at)
        while version.search:
            self.draft.advance(version)
        return version

    def ids(self) -> list[int]:
        ids = self.draft.version.ids(self.draft.version.block)
        assert ids is not None
        return ids.tolist()


def test_a_reply_is_what_stands_before_the_first_stop_id() -> None:
    steered = Steered()
    reply = steered.draft.version.reply_ids(steered.draft.facts.model.stop_ids)
    assert len(reply) == len(TALE)
    assert [*reply, TURN_END] == steered.ids()[: len(TALE) + 1]


def test_rediffusing_changes_the_span_and_nothing_else() -> None:
    steered = Steered()
    before = steered.ids()
    seen = set()
    for seed in range(8):
        job = steered.draft.rediffuse(0, (3, 7), 1.0, seed)
        assert job.starts[0].pinned == frozenset(range(CANVAS)) - frozenset(range(3, 7))
        steered.run("re-diffuse", job, span=(3, 7), beside=seed > 0)
        after = steered.ids()
        assert after[:3] + after[7:] == before[:3] + before[7:]
        seen.add(tuple(after[3:7]))
        steered.draft.current = steered.draft.versions[0] if seed < 7 else steered.draft.current
    assert len(seen) > 1


def test_a_pinned_word_stays_through_every_rediffusion() -> None:
    steered = Steered()
    word = steered.ids()[4]
    places, pinned = steered.draft.toggle_pins(0, (4, 5))
    assert (places, pinned) == (frozenset({4}), True)
    for seed in range(8):
        job = steered.draft.rediffuse(0, (2, 8), 1.0, seed)
        steered.run("re-diffuse", job, span=(2, 8), pins=steered.draft.version.pins)
        assert steered.ids()[4] == word


def test_a_selection_that_is_pinned_altogether_is_refused() -> None:
    steered = Steered()
    steered.draft.toggle_pins(0, (2, 5))
    with pytest.raises(Refused, match="pinned"):
        steered.draft.rediffuse(0, (2, 5), 1.0, 1)


def test_pins_can_be_freed_and_every_toggle_undone() -> None:
    steered = Steered()
    draft = steered.draft
    draft.toggle_pins(0, (2, 5))
    draft.toggle_pins(0, (3, 4))
    assert draft.user_pins(0) == {2, 4}
    assert draft.undo()
    assert draft.user_pins(0) == {2, 3, 4}
    assert draft.undo()
    assert draft.user_pins(0) == frozenset()
    assert not draft.undo()
    assert draft.redo()
    assert draft.redo()
    assert draft.user_pins(0) == {2, 4}


def test_strength_below_one_starts_from_the_text_and_enters_the_schedule_later() -> None:
    steered = Steered()
    job = steered.draft.rediffuse(0, (0, 10), 0.5, 1)
    assert job.starts[0].strength == 0.5
    assert list(job.starts[0].ids or ()) == steered.ids()


def test_a_chosen_token_is_pinned_and_the_rest_settles_around_it() -> None:
    steered = Steered()
    other = next(IDS[w] for w in TALE[2].split("|") if IDS[w] != steered.ids()[2])
    job, pins = steered.draft.settle(0, {2: other}, 3)
    assert (pins, job.starts[0].strength) == (frozenset({2}), SETTLING_STRENGTH)
    steered.run("pick", job, pins={0: pins})
    assert steered.ids()[2] == other
    assert steered.draft.user_pins(0) == {2}


def test_polishing_frees_the_tokens_that_the_model_doubts_most_and_no_others() -> None:
    steered = Steered()
    draft, ids = steered.draft, steered.ids()
    doubts = {place: Doubt((ids[place],), (p,)) for place, p in {3: 0.6, 9: 0.1, 12: 0.3, 5: 0.95, 30: 0.1}.items()}
    draft.version.doubts[0] = doubts
    draft.toggle_pins(0, (9, 10))
    draft.version.doubts[0] = doubts
    job, places = draft.polish(0, 1)
    assert places == {12, 3}  # 9 is pinned, the model is sure of 5, and 30 is after the end
    assert frozenset(range(CANVAS)) - job.starts[0].pinned == places
    draft.version.doubts[0] = {5: doubts[5]}
    with pytest.raises(Refused, match="doubts no token"):
        draft.polish(0, 1)


def test_a_gap_is_searched_and_its_candidates_are_proposals_that_keep_both_sides() -> None:
    steered = Steered()
    draft, before = steered.draft, steered.ids()
    draft.toggle_pins(0, (2, 8))
    version = steered.gap(5)
    assert [job.candidates for job in steered.backend.jobs[1:]] == [TRIED, TRIED, CANDIDATES + 1], "and nothing"
    assert not version.running and draft.current is version
    assert draft.proposals()[0] is version and len(draft.proposals()) == CANDIDATES + 1
    lengths = set()
    for proposal in draft.proposals():
        draft.current = proposal
        ids = steered.ids()
        (length,) = [n for n in range(CANVAS) if frozenset({2, 3, 4, *range(5 + n, 8 + n)}) == proposal.pins[0]]
        assert ids[:5] == before[:5]
        assert ids[5 + length : len(TALE) + 1 + length] == before[5 : len(TALE) + 1]
        lengths.add(length)
    assert len(lengths) == CANDIDATES + 1 and length == 0, "an empty gap comes last"


def test_a_gap_that_is_stopped_keeps_what_is_written() -> None:
    steered = Steered()
    draft, before = steered.draft, steered.ids()
    search = Search(draft.gap(0, 5, None, 1), lambda job: steered.backend.submit(job, lambda run, upto: None))
    steered.backend.step_gate.close()
    search.start()
    version = draft.add_search("gap", search, 5)
    assert version.running
    steered.backend.step_gate.let(2)
    while len(version.frames()) < 1:
        draft.follow(version)
    version.stop()
    steered.backend.step_gate.open()
    draft.advance(version)
    assert not version.running and len(steered.backend.jobs) == 2
    for proposal in draft.proposals():
        draft.current = proposal
        assert steered.ids()[:5] == before[:5]


def test_what_follows_a_gap_is_written_without_its_limits() -> None:
    steered = Steered()
    steered.gap(5)
    job = steered.draft.rediffuse(0, (3, 7), 1.0, 1)
    assert steered.backend.jobs[-1].suppressed and not job.suppressed and not job.likelihood


def test_a_gap_of_a_given_length_has_that_length_or_is_refused() -> None:
    steered = Steered()
    steered.gap(5, 4)
    assert [len(steered.backend.jobs), steered.backend.jobs[-1].candidates] == [2, 1]
    for length, refusal in ((CANVAS, f"has {CANVAS - len(TALE) - 1 - 4} positions left"), (None, "no positions left")):
        with pytest.raises(Refused, match=refusal):
            steered.draft.gap(0, 5, length, 1)
        room = CANVAS - len(TALE) - 1 - 4
        if length:
            steered.gap(5, room)


def test_a_fork_shares_its_first_steps_and_both_branches_stay() -> None:
    steered = Steered()
    first = steered.draft.version
    step = 2
    forked = steered.run("fork", steered.draft.fork(0, step, 99))
    for old, new in zip(first.frames()[:step], forked.frames()[:step], strict=True):
        assert (old.ids == new.ids).all()
        assert (old.canvas == new.canvas).all()
    assert steered.draft.versions == [first, forked]
    assert forked.parent is first


def test_a_fork_holds_what_was_pinned_after_its_step() -> None:
    steered = Steered()
    before = steered.ids()
    everything = (0, len(TALE))
    steered.draft.toggle_pins(0, everything)
    for seed in range(3):
        steered.draft.current = steered.draft.versions[1]
        steered.run("fork", steered.draft.fork(0, 1, seed), pins=steered.draft.version.pins)
        assert steered.ids()[: len(TALE)] == before[: len(TALE)]
    steered = Steered()
    steered.gap(5)
    steered.draft.cycle(1)
    before = steered.ids()
    steered.draft.toggle_pins(0, everything)
    steered.run("fork", steered.draft.fork(0, 1, 7), pins=steered.draft.version.pins)
    assert steered.ids()[: len(TALE)] == before[: len(TALE)]


def test_a_fork_where_nothing_is_left_to_write_is_refused() -> None:
    steered = Steered()
    with pytest.raises(Refused, match="nothing is left"):
        steered.draft.fork(0, len(steered.draft.version.frames()), 1)


def test_proposals_for_a_span_go_round_and_none_is_lost() -> None:
    steered = Steered()
    draft = steered.draft
    made = []
    for seed in range(3):
        made.append(steered.run("re-diffuse", draft.rediffuse(0, (2, 4), 1.0, seed), span=(2, 4), beside=bool(made)))
    assert draft.proposals() == made
    assert draft.cycle(1)
    assert draft.current is made[0]
    assert draft.cycle(-1)
    assert draft.current is made[2]
    assert {v.parent for v in made} == {draft.versions[0]}


def test_words_set_before_a_run_are_in_its_result() -> None:
    template = {20: IDS["red"], 21: IDS["hello"]}
    steered = Steered(template=template)
    assert [steered.ids()[place] for place in template] == [*template.values()]


def test_a_run_that_failed_before_its_first_step_leaves_the_version_before_it() -> None:
    steered = Steered()
    draft, first = steered.draft, steered.draft.version
    job = draft.rediffuse(0, (1, 2), 1.0, 1)
    failed = draft.add("polish", Run(job, RunLog(job)))
    draft.remove(failed.run)
    assert draft.current is first


def test_a_run_that_failed_later_keeps_its_draft() -> None:
    steered = Steered()
    failed = steered.run("polish", steered.draft.rediffuse(0, (1, 2), 1.0, 1))
    steered.draft.remove(failed.run)
    assert steered.draft.current is failed


def test_an_eos_filled_canvas_stays_filled() -> None:
    steered = Steered()
    assert set(steered.ids()[len(TALE) + 1 :]) == {EOS}
