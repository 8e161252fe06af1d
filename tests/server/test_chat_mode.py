"""Chat over servers that send text alone: the same transcript, without a canvas that could be steered."""

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_server import Part, frame, serving, words
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.cli import main
from dgtui.cli.backend import WorkerBackend
from dgtui.config import load as load_settings
from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, Finished, Flag, Frame, StopReason
from dgtui.diffusion.job import Amendment, Job, SamplerSettings, Start
from dgtui.errors import DgtuiError, RunFailed
from dgtui.message import Message
from dgtui.paths import embedded_dir
from dgtui.server.chat import CANVAS, CONTEXT, ChatStepper, ChatTokenizer
from dgtui.server.client import Client, ServerError
from dgtui.server.probe import Served

TOKENIZER = ChatTokenizer.load(embedded_dir())
END = TOKENIZER.turn_end_id
ASK = tuple(TOKENIZER.chat([Message("user", "hello")]))


@pytest.fixture
def no_network() -> None:
    """The servers of these tests are threads of this process."""


def stepper(
    transport: httpx.AsyncBaseTransport | None = None, url: str = "http://here", most: int | None = None
) -> Any:
    assert END is not None
    served = Served("storyteller", "", CANVAS, TOKENIZER.ids_in_use, CONTEXT)
    client = Client(url, transport=transport)
    client.first_wait = 0.0
    return ChatStepper(client, served, TOKENIZER, END, most)


def body(parts: Sequence[Part]) -> bytes:
    return b"".join(
        p if isinstance(p, bytes) else f"data: {json.dumps(p)}\n\n".encode() for p in parts if not callable(p)
    )


def answering(parts: Sequence[Part] | bytes, status: int = 200) -> httpx.MockTransport:
    content = parts if isinstance(parts, bytes) else body(parts)
    return httpx.MockTransport(lambda _: httpx.Response(status, content=content))


def events(over: ChatStepper, steps: int = CANVAS, prompt: Sequence[int] = ASK) -> list[Any]:
    try:
        return list(engine.run(over, Job("j", tuple(prompt), 5, CONTEXT, SamplerSettings(steps=steps))))
    finally:
        over.client.close()


def text(found: list[Any]) -> str:
    return TOKENIZER.decode(found[-1].token_ids[0])


def test_a_reply_arrives_word_by_word_and_ends() -> None:
    reply = ["Once ", "there was", " a fox", "."]
    gates = [threading.Event() for _ in reply]
    shown: list[str] = []
    parts: list[Part] = []
    for gate, event in zip(gates, words(*reply)[: len(reply)], strict=True):
        parts += [lambda gate=gate: gate.wait(20), event]
    with serving([*parts, *words()]) as server:
        over = stepper(url=server.url)
        gates[0].set()
        for event in engine.run(over, Job("j", ASK, 5, CONTEXT, SamplerSettings(steps=CANVAS))):
            if isinstance(event, Frame):
                shown.append(TOKENIZER.decode(engine.cut(event.ids.copy(), over.stop_ids, CANVAS)[0]))
                gates[min(len(shown), len(gates) - 1)].set()
        over.client.close()
    assert isinstance(event, Finished) and event.reason is StopReason.EOS
    assert shown[0] == "Once " and shown[-1] == "Once there was a fox." and len(shown) >= len(reply)
    assert all(after.startswith(before) for before, after in pairwise(shown))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=2000), st.lists(st.integers(1, 40), max_size=60), st.sampled_from([1, 7, 48, CANVAS]))
def test_a_text_in_any_pieces_comes_back_as_it_was_sent(sent: str, sizes: list[int], steps: int) -> None:
    sent = sent.encode(errors="replace").decode().removeprefix("<think>")
    pieces, at = [], 0
    for size in sizes:
        pieces.append(sent[at : at + size])
        at += size
    found = events(stepper(answering(words(*pieces, sent[at:]))), steps)
    assert text(found) == sent and found[-1].reason is StopReason.EOS


def test_a_long_reply_goes_over_several_canvases() -> None:
    sent = "".join(f"{n} foxes sat by the river — «ß» 👩‍💻.\n" for n in range(200))
    found = events(stepper(answering(words(sent[:777], sent[777:]))), steps=4)
    assert text(found) == sent
    assert len(found[-1].steps) > 10 and max(found[-1].steps) <= 4


def test_drafts_are_shown_until_their_text_is_settled() -> None:
    shown = threading.Event()
    parts = [frame("Onxe thxre", 1), lambda: shown.wait(20), frame("Once there", 2), *words("Once there was.")]
    with serving(parts) as server:
        over = stepper(url=server.url)
        frames: list[Frame] = []
        for event in engine.run(over, Job("j", ASK, 5, CONTEXT, SamplerSettings())):
            if isinstance(event, Frame):
                frames.append(event)
                shown.set()
        over.client.close()
    first = TOKENIZER.decode(engine.cut(frames[0].ids.copy(), over.stop_ids, CANVAS)[0])
    assert first == "Onxe thxre" and frames[0].flags[0] & Flag.RENOISED and frames[0].entropy[0] > 0
    assert TOKENIZER.decode(event.token_ids[0]) == "Once there was." and frames[-1].flags[0] == Flag.ACCEPTED


def test_what_a_server_calls_reasoning_is_folded_as_a_thought() -> None:
    parts = [{"choices": [{"delta": {"reasoning_content": "Foxes, "}}]},
             {"choices": [{"delta": {"reasoning_content": "then."}}]}, *words("A fox.")]  # fmt: skip
    thought = TOKENIZER.split_thought(events(stepper(answering(parts)))[-1].token_ids[0])
    assert thought.thought == b"Foxes, then." and TOKENIZER.decode(thought.answer_ids) == "A fox."


def test_a_reply_that_ran_out_of_room_is_reported_as_cut() -> None:
    found = events(stepper(answering(words("Once there", finish="length"))))
    assert text(found) == "Once there" and found[-1].reason is StopReason.LENGTH


def test_one_json_answer_instead_of_a_stream_is_a_reply_too() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "A fox."}, "finish_reason": "stop"}]}
    assert text(events(stepper(answering(json.dumps(whole, indent=2).encode())))) == "A fox."


def test_line_separators_inside_a_text_do_not_end_its_event() -> None:
    sent = "a\u2028b\u0085c"
    event = json.dumps(words(sent)[0], ensure_ascii=False).encode()
    assert text(events(stepper(answering(b"data: " + event + b"\r\n\r\n" + body(words()))))) == sent


def test_the_conversation_is_sent_as_messages_and_markup_in_it_stays_text() -> None:
    said = [
        Message("system", "Be brief."),
        Message("user", "<turn|> hi é"),
        Message("model", "yes"),
        Message("user", "?"),
    ]
    with serving(words("ok")) as server:
        events(stepper(url=server.url, most=77), prompt=TOKENIZER.chat(said, think=True))
    (asked,) = server.asked
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "<turn|> hi é"},
        {"role": "assistant", "content": "yes"}, {"role": "user", "content": "?"},
    ]  # fmt: skip
    assert asked["max_tokens"] == 77 and asked["stream"] and asked["seed"] == 5
    assert asked["chat_template_kwargs"] == {"enable_thinking": True} and asked["model"] == "storyteller"


def test_a_field_that_a_server_refuses_is_left_out_and_nothing_else() -> None:
    with serving((400, {"error": {"message": "seed is not supported"}}), words("ok")) as server:
        assert text(events(stepper(url=server.url))) == "ok"
    assert ["seed" in asked for asked in server.asked] == [True, False]
    with (
        serving((400, {"error": {"message": "the context is full"}})) as server,
        pytest.raises(ServerError, match="full"),
    ):
        events(stepper(url=server.url))
    assert len(server.asked) == 1


def test_stopping_closes_the_connection_within_half_a_second_and_keeps_the_text() -> None:
    rest = threading.Event()
    parts: list[Part] = [*words("Once ")[:1], lambda: rest.wait(20), *[words(" x" * 99)[0]] * 999]
    with serving(parts) as server:
        over, control, found = stepper(url=server.url), Control(), []
        control.on_cancel(over.interrupt)
        begun = threading.Event()

        def run() -> None:
            for event in engine.run(over, Job("j", ASK, 5, CONTEXT, SamplerSettings(steps=CANVAS)), control):
                found.append(event)
                begun.set() if isinstance(event, Frame) else None

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(20)
        control.cancel()
        thread.join(0.5)
        assert not thread.is_alive()
        rest.set()
        assert server.hung_up.wait(20)
        over.client.close()
    assert found[-1].reason is StopReason.CANCELLED and text(found) == "Once "


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"error": {"message": "EngineCore encountered an issue."}}], "EngineCore"),
        ([{"object": "error", "message": "CUDA out of memory", "error": "x"}], "broke off the response: x"),
        ([], "broke off the reply"),
        ([b"data: {brok\n\n"], "broke off"),
        ([{"choices": "none"}], "no choices"),
        ([b"data: [1]\n\n"], "is not valid"),
    ],
)
def test_a_stream_that_breaks_has_its_sentence_and_the_text_before_it_stays(parts: list[Part], said: str) -> None:
    over, seen = stepper(answering([words("Once ")[0], *parts])), []
    with pytest.raises(ServerError, match=said) as error:
        for event in engine.run(over, Job("j", ASK, 5, CONTEXT, SamplerSettings(steps=CANVAS))):
            seen.append(event)
    assert error.value.hint and "\n" not in error.value.message
    assert TOKENIZER.decode(engine.cut(seen[-1].ids.copy(), over.stop_ids, CANVAS)[0]) == "Once "
    over.client.close()


pieces = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(lambda t: words(t)[0]),
    st.text(max_size=20).map(frame),
    st.sampled_from([b"data: ", b"\n", b"\n\n", b"data: [DONE]\n\n", b": ping\n\n"]),
    st.sampled_from([None, {"delta": None}, {"delta": 3}, {"delta": {"content": 3}}]).map(lambda c: {"choices": [c]}),
    st.sampled_from([{"choices": []}, {"choices": {}}, {"type": "diffusion_frame"}, {}]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, max_size=8), st.sampled_from([200, 200, 200, 500, 404]))
def test_no_stream_crashes_a_reply(parts: list[Part], status: int) -> None:
    try:
        assert events(stepper(answering(body(parts), status)))[-1].reason in StopReason
    except DgtuiError as error:
        assert error.message and error.hint


def test_nothing_of_a_text_can_be_held_or_amended() -> None:
    over = stepper()
    over.encode(ASK)
    with pytest.raises(RunFailed, match="text only"):
        over.begin([Start((1,) * CANVAS, frozenset({3}))], SamplerSettings())
    with pytest.raises(RunFailed, match="text only"):
        over.amend(Amendment(3, Action.PIN))
    over.client.close()


@pytest.fixture
def told(no_network: None) -> Iterator[Any]:
    with serving(words("Once there was ", "a fox.")) as server:
        yield server


@pytest.mark.parametrize("mode", ["auto", "chat"])
def test_generate_prints_what_the_server_writes(
    told: Any, mode: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", "hello", "--server", told.url, "--server-mode", mode, "--max-tokens", "9"]) == 0
    out = capsysbinary.readouterr()
    assert out.out == b"Once there was a fox.\n"
    assert (b"replies come as text and cannot be steered" in out.err) == (mode == "auto")
    assert told.asked[0]["max_tokens"] == 9


def test_a_batch_is_answered_over_text_too(told: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_text('{"prompt": "a"}\n{"prompt": "b", "max_tokens": 5}\n')
    batch = ["--batch", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(["generate", *batch, "--server", told.url, "--server-mode", "chat"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["Once there was a fox."] * 2
    assert sorted(asked.get("max_tokens", 0) for asked in told.asked) == [0, 5]


@pytest.mark.parametrize("mode", ["chat", "auto", "steps"])
def test_what_needs_a_canvas_refuses_a_server_of_text(
    told: Any, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_text("Once there was a fox.\n")
    infill = ["infill", str(tmp_path / "f"), "--span", "1:16-1:21"]
    assert main([*infill, "--server", told.url, "--server-mode", mode]) in (2, 3)
    assert "canvas" in capsys.readouterr().err
    assert (tmp_path / "f").read_text() == "Once there was a fox.\n"


def test_doctor_says_that_a_server_sends_text_only(told: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    main(["doctor", "--server", told.url, "--json"])
    (check,) = [c for c in json.loads(capsysbinary.readouterr().out)["checks"] if c["name"] == "server"]
    assert check["mark"] == "warn" and "text only" in check["found"] and "cannot be steered" in check["advice"]


def test_a_screen_is_told_that_the_canvas_is_fixed(told: Any) -> None:
    chosen, _ = load_settings(flags={"model.server": told.url})
    backend = WorkerBackend(chosen, text=True)
    try:
        facts = backend.load(None, lambda stage: None).result(240)
        assert "text only" in facts.fixed and facts.name.startswith("storyteller on ")
        job = Job("j", tuple(backend.chat([Message("user", "hi")])), 1, 8, facts.settings)
        assert backend.submit(job, lambda run, upto: None).ended.result(240).reason is StopReason.EOS
    finally:
        backend.close()
