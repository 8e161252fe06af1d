"""What a model doubts: each place is judged without its own token, and nothing else changes."""

import itertools

import pytest
from scripted import CANVAS, IDS, MODEL, START, TALE, TURN_END, ScriptedBackend

from dgtui.diffusion.job import Job
from dgtui.steering.doubts import BATCH, DOUBTED_MOST, MOST, TOGETHER, Doubt, Doubts
from dgtui.steering.search import Search

CANVAS_IDS = [IDS[place.split("|")[0]] for place in TALE] + [TURN_END] + [0] * (CANVAS - len(TALE) - 1)
JOB = Job("asked", (2, 5), 1)


def judged(places: range, draws: int = 1) -> tuple[Doubts, ScriptedBackend]:
    backend = ScriptedBackend()
    search = Search(
        Doubts(JOB, CANVAS_IDS, places, MODEL, draws), lambda job: backend.submit(job, lambda run, upto: None)
    )
    search.finish()
    backend.close()
    return search.plan, backend


def test_every_place_is_judged_once_with_all_other_places_pinned() -> None:
    plan, backend = judged(range(len(TALE)))
    assert set(plan.found) == set(range(len(TALE)))
    freed = [sorted(set(range(CANVAS)) - start.pinned) for job in backend.jobs for start in job.starts]
    assert sorted(place for places in freed for place in places) == list(range(len(TALE)))
    assert max(map(len, freed)) <= TOGETHER
    assert all(b - a >= len(freed) for places in freed for a, b in itertools.pairwise(places))
    assert {start.ids for job in backend.jobs for start in job.starts} == {tuple(CANVAS_IDS)}


def test_a_place_is_judged_in_one_step_at_the_models_own_temperature() -> None:
    _, backend = judged(range(3, 4), draws=2)
    (job,) = backend.jobs
    assert (job.settings.steps, job.settings.t_min, job.settings.t_max, job.candidates) == (1, 1.0, 1.0, 2)


def test_alternatives_are_the_right_words_with_the_mean_of_their_probabilities() -> None:
    plan, _ = judged(range(2, 3), draws=8)
    doubt = plan.found[2]
    assert {IDS[word] for word in TALE[2].split("|")} <= set(doubt.ids)  # each is right for some noise
    assert len(doubt.ids) <= MOST and sum(doubt.probs) <= 1.001
    assert list(doubt.probs) == sorted(doubt.probs, reverse=True)


def test_no_markup_is_among_the_alternatives() -> None:
    plan, _ = judged(range(6), draws=2)
    assert all(START not in doubt.ids for doubt in plan.found.values())


def test_many_places_run_in_few_batches() -> None:
    plan = Doubts(JOB, CANVAS_IDS, range(CANVAS), MODEL)
    job = plan.job()
    assert job is not None and CANVAS / TOGETHER == job.candidates <= BATCH


def test_a_token_is_doubted_the_more_the_less_probable_it_is() -> None:
    doubt = Doubt((7, 8), (0.9, 0.06))
    assert doubt.nats(7) == pytest.approx(0.105, abs=0.001)
    assert doubt.nats(7) < doubt.nats(8) < doubt.nats(9) < DOUBTED_MOST
    assert Doubt((7,), (1.0,)).nats(9) == DOUBTED_MOST
