"""A canvas on a server obeys the same rules as a local one."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stub import CANVAS, VOCAB, StubServer, transcript

from dgtui.diffusion import engine
from dgtui.diffusion.events import Action, BlockFinished, Finished, Flag, Frame, StopReason
from dgtui.diffusion.job import Amendment, Job, SamplerSettings, Start
from dgtui.errors import DgtuiError, ImageRefused
from dgtui.server.client import Client, ServerError
from dgtui.server.probe import NotSteerable, Served, check_tokenizer, recognise
from dgtui.server.stepper import BlocksStepper, StepsStepper, TextStepper, likeliest, token_ids

TARGET = [7, 8, 9, 10, 1, 1]
SERVED = Served("tiny", "0.32.0", CANVAS, VOCAB, 2048)


def stepper(stub: StubServer, kind: type[StepsStepper] = StepsStepper) -> StepsStepper:
    return kind(Client("http://here", transport=stub), SERVED, frozenset({1}))


def run(stub: StubServer, kind: type[StepsStepper] = StepsStepper, **job: Any) -> list[Any]:
    return list(engine.run(stepper(stub, kind), Job("j", (2, 3), 5, CANVAS, SamplerSettings(steps=6), **job)))


@pytest.mark.parametrize("kind", [StepsStepper, BlocksStepper, TextStepper])
def test_a_run_ends_with_what_the_server_is_sure_of(kind: type[StepsStepper]) -> None:
    events = run(StubServer(TARGET), kind)
    last = events[-1]
    assert isinstance(last, Finished) and last.reason is StopReason.EOS
    assert last.token_ids[0].tolist() == TARGET[:4]


def test_a_canvas_resolves_over_steps_and_every_frame_is_reported() -> None:
    stub = StubServer(TARGET)
    stub.sureness = 0.5
    frames = [e for e in run(stub) if isinstance(e, Frame)]
    assert len(frames) == 6 == len(stub.completions())
    assert all(f.mean_entropy > 0.5 for f in frames)
    assert (frames[0].flags & int(Flag.RENOISED)).any()


def test_each_request_carries_the_canvas_of_the_frame_before() -> None:
    stub = StubServer(TARGET)
    stub.sureness = 0.5
    frames = [e for e in run(stub) if isinstance(e, Frame)]
    sent = [body["vllm_xargs"]["diffusion_seed_canvas"] for body in stub.completions()]
    assert sent[1:] == [f.canvas.tolist() for f in frames[:-1]]


def test_requests_hold_nothing_that_a_server_refuses_or_dies_of() -> None:
    stub = StubServer(TARGET)
    for kind in (StepsStepper, BlocksStepper):
        run(stub, kind, starts=(Start(tuple(range(CANVAS)), frozenset({3})),), likelihood=True)
    forbidden = {"prompt_logprobs", "echo", "top_k", "temperature", "seed", "min_p", "logit_bias", "min_tokens"}
    assert stub.completions() and all(not forbidden & body.keys() for body in stub.completions())
    assert all(body["max_tokens"] in (CANVAS, 16) and body["logprobs"] == 20 for body in stub.completions())


@pytest.mark.parametrize("kind", [StepsStepper, BlocksStepper])
def test_pins_are_held_whatever_the_server_returns(kind: type[StepsStepper]) -> None:
    start = Start(tuple(20 + i for i in range(CANVAS)), frozenset({0, 5, 11}))
    for event in run(StubServer(TARGET), kind, starts=(start,)):
        if isinstance(event, Frame):
            assert [event.ids[i] for i in (0, 5, 11)] == [20, 25, 31]
            assert all(event.flags[i] == Flag.PINNED and event.entropy[i] == 0 for i in (0, 5, 11))
        if isinstance(event, BlockFinished):
            assert [event.ids[i] for i in (0, 5, 11)] == [20, 25, 31]


def test_an_amendment_is_in_the_next_request() -> None:
    stub = StubServer(TARGET)
    stub.sureness = 0.5
    over = stepper(stub)
    over.seed(0, 1)
    over.encode([2])
    over.begin([Start()], SamplerSettings(steps=6))
    over.step()
    assert over.amend(Amendment(4, Action.PIN, 33)) == 33
    over.step()
    assert stub.completions()[-1]["vllm_xargs"]["diffusion_seed_canvas"][4] == 33
    assert over.amend(Amendment(4, Action.UNPIN)) == 33


def test_suppressed_ids_are_never_written() -> None:
    stub = StubServer(TARGET)
    job_end = next(e for e in run(stub, suppressed=frozenset({7, 1})) if isinstance(e, BlockFinished))
    assert not {7, 1} & set(job_end.ids.tolist())


def test_the_same_seed_repeats_a_run_and_candidates_differ() -> None:
    def noise(seed: int) -> list[list[int]]:
        stub = StubServer(TARGET)
        stub.sureness = 0.5
        list(
            engine.run(stepper(stub), Job("j", (2,), seed, CANVAS, SamplerSettings(steps=2), starts=(Start(), Start())))
        )
        return [body["vllm_xargs"]["diffusion_seed_canvas"] for body in stub.completions()]

    assert sorted(noise(5)) == sorted(noise(5))
    assert noise(5) != noise(6)
    assert noise(5)[0] != noise(5)[1]


def test_lengths_are_ranked_by_what_follows_the_gap() -> None:
    stub = StubServer(TARGET)
    over = stepper(stub)
    over.seed(0, 1)
    over.encode([2])
    ids = (20, 21, *([1] * 2), 7, 8, 9, 10, 1, 1, 1, 1)
    over.begin([Start(ids, frozenset(range(CANVAS)) - {2, 3})], SamplerSettings(steps=2))
    (found,) = over.log_probs([np.array(ids, dtype=np.int32)])
    body = stub.completions()[-1]
    assert body["prompt"] == [2, 20, 21, 1, 1] and body["vllm_xargs"]["diffusion_canvas_length"] == 16
    assert found[:4].tolist() == [0, 0, 0, 0] and found[4:8].sum() > -0.01  # the stub expects 7 8 9 10


def test_images_are_refused() -> None:
    with pytest.raises(ImageRefused):
        stepper(StubServer(TARGET)).encode([2], (object(),))  # type: ignore[arg-type]


def test_a_server_that_dies_in_the_middle_leaves_the_frames_before() -> None:
    stub = StubServer(TARGET)
    stub.sureness = 0.5
    seen: list[Any] = []
    with pytest.raises(ServerError, match="EngineCore"):
        for event in engine.run(stepper(stub), Job("j", (2,), 5, CANVAS, SamplerSettings(steps=6))):
            seen.append(event)
            if isinstance(event, Frame) and len(stub.completions()) == 2:
                stub.fail = [(500, transcript("engine_dead_top_k")["response"])]
    assert len([e for e in seen if isinstance(e, Frame)]) == 2


def test_a_server_is_recognised_by_its_refusals() -> None:
    served = recognise(Client("http://here", transport=StubServer(TARGET)))
    assert served == SERVED


def test_a_model_that_writes_from_left_to_right_is_named_so() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "llama"}]})
        return httpx.Response(200, json={"choices": [{"text": "hi"}]})

    with pytest.raises(NotSteerable, match="does not accept a canvas"):
        recognise(Client("http://here", transport=httpx.MockTransport(answer)))


def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    with pytest.raises(ServerError) as error:
        recognise(Client("http://here", transport=StubServer(TARGET)), "other")
    assert "tiny" in error.value.hint


def test_another_tokenizer_is_refused() -> None:
    class Other:
        def encode(self, text: str) -> list[int]:
            return [0] * len(text)

    class Same:
        def encode(self, text: str) -> list[int]:
            return [ord(c) % VOCAB for c in text]

    client = Client("http://here", transport=StubServer(TARGET))
    check_tokenizer(client, SERVED, Same(), VOCAB)
    with pytest.raises(NotSteerable):
        check_tokenizer(client, SERVED, Other(), VOCAB)
    with pytest.raises(NotSteerable):
        check_tokenizer(client, SERVED, Same(), VOCAB + 1)


def test_a_real_step_is_read_exactly() -> None:
    read = transcript("follow_read")
    choice = read["response"]["choices"][0]
    ids, log_probs = likeliest(choice, 16, 1280)
    rows = choice["logprobs"]["top_logprobs"]
    assert ids[3, 0] == int(next(iter(rows[3])).removeprefix("token_id:"))
    assert log_probs[3, 0] == pytest.approx(min(0.0, next(iter(rows[3].values()))))
    assert token_ids(choice, 16, 1280).tolist() == choice["token_ids"]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(junk)
def test_no_answer_of_a_server_crashes_a_step(answer: Any) -> None:
    text = json.dumps(answer)
    over = StepsStepper(
        Client("http://here", transport=httpx.MockTransport(lambda _: httpx.Response(200, text=text))),
        SERVED,
        frozenset({1}),
    )
    over.seed(0, 1)
    over.encode([2])
    over.begin([Start()], SamplerSettings(steps=2))
    with pytest.raises(DgtuiError):
        over.step()
