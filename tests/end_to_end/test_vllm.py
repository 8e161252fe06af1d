"""The promises of `docs/server.md` on a real vLLM server with the embedded model.

Make the environment once: `tests/server/vllm/setup.sh DIR`. Then `DGTUI_VLLM=DIR pytest -m vllm -s` prints what it
measures. `DGTUI_VLLM_URL` uses a server that is running already. Kernels are interpreted on the CPU: spans, files and
batches are written in few steps.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import unpacked
from pty_terminal import Terminal

from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Finished, Frame, StopReason
from dgtui.diffusion.job import Job, SamplerSettings, Start
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.message import Message
from dgtui.model import catalog, loader
from dgtui.model.denoiser import TransformersDenoiser
from dgtui.model.parts import LoadOptions
from dgtui.server.served import ServedModel, connect
from dgtui.server.stepper import likeliest

VENV, URL = os.environ.get("DGTUI_VLLM"), os.environ.get("DGTUI_VLLM_URL")
BATCH, TABLE = int(os.environ.get("DGTUI_VLLM_BATCH", "40")), int(os.environ.get("DGTUI_VLLM_TABLE", "100"))
"""Prompts of a batch, and of the table. Read here, because `DGTUI_*` is removed for each test."""
pytestmark = [pytest.mark.vllm, pytest.mark.skipif(not (VENV or URL), reason="DGTUI_VLLM names no environment")]
WAIT = 600.0
"""Seconds that the slowest wait may take on a machine that has other things to do."""
PROMPTS = (
    "Tell me a short story about Mira the fox and Ben.",
    "Write a short tale about Mia and Otto.",
    "Give me JSON for: Olga is 31 years old and lives in Milan.",
    "What does p do?",
    "Write a function that doubles x.",
)


@pytest.fixture(autouse=True)
def no_network() -> None:
    """These tests talk to a server on this machine."""


class Server:
    """A vLLM process on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self._log = f"http://127.0.0.1:{self.port}", folder / "log"
        self._model = unpacked(folder / "model")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        import httpx

        script = Path(__file__).parents[1] / "server" / "vllm" / "serve.sh"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", str(script), str(VENV), str(self._model), str(self.port)],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        began = time.monotonic()
        while time.monotonic() - began < WAIT:
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise AssertionError("vLLM did not start")

    def kill(self) -> None:
        """Ends it at once, with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if URL:
        yield URL
        return
    server = Server(tmp_path_factory.mktemp("vllm"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def served(url: str) -> Iterator[ServedModel]:
    found = connect(url, "steps", "embedded")
    yield found
    found.client.close()


@pytest.fixture(scope="module")
def local() -> ReferenceStepper:
    loaded = loader.load(catalog.resolve("embedded"), LoadOptions(device="cpu"))
    return ReferenceStepper(TransformersDenoiser(loaded.model, loaded.stop_ids))


def text(served: ServedModel, finished: Any) -> str:
    return served.tokenizer.decode_bytes(finished.token_ids[0].tolist()).decode(errors="replace")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_first_step_is_the_local_one_at_every_place(
    served: ServedModel, local: ReferenceStepper, prompt: str
) -> None:
    ids = served.tokenizer.chat([Message("user", prompt)])
    noise = np.random.default_rng(5).integers(served.tokenizer.vocab_size, size=256).tolist()
    settings = SamplerSettings(steps=1)
    drafts = []
    for stepper in (served.stepper(), local):
        stepper.seed(0, 1)
        stepper.encode(ids)
        stepper.begin([Start(tuple(noise), noised=True)], settings)
        drafts.append(stepper.step()[0].ids)
    assert int((drafts[0] == drafts[1]).sum()) == 256


def test_a_reply_is_written_step_by_step(served: ServedModel) -> None:
    ids = tuple(served.tokenizer.chat([Message("user", PROMPTS[0])]))
    events = list(engine.run(served.stepper(), Job("j", ids, 3, 256, served.settings)))
    frames = [event for event in events if isinstance(event, Frame)]
    assert len(frames) >= 3 and events[-1].reason is StopReason.EOS
    print(f"\n{len(frames)} steps: {text(served, events[-1])!r}")


def test_a_run_is_stopped_within_half_a_second(served: ServedModel) -> None:
    ids = tuple(served.tokenizer.chat([Message("user", PROMPTS[0])]))
    stepper, control = served.stepper(), Control()
    control.on_cancel(stepper.interrupt)
    ended: list[float] = []

    def run() -> None:
        *_, last = engine.run(stepper, Job("j", ids, 3, 256, served.settings), control)
        assert isinstance(last, Finished) and last.reason is StopReason.CANCELLED
        ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    while not served.client._waiting:
        time.sleep(0.01)
    stopped = time.monotonic()
    control.cancel()
    thread.join(10)
    print(f"\nstopped after {ended[0] - stopped:.3f} s")
    assert ended[0] - stopped < 0.5


def test_a_batch_is_faster_with_eight_at_a_time(url: str, tmp_path: Path) -> None:
    names, animals = "Mia Otto Olaf Anna Ben Mira Tom Eva Ida Max".split(), "fox hare otter mouse".split()
    asked = [f"Write a short tale about {name} the {animal}." for animal in animals for name in names][:BATCH]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    seconds = {}
    for at_a_time in (8, 1):
        out = tmp_path / f"{at_a_time}.jsonl"
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "dgtui", "generate", "--server", url, "--model", "embedded", "--steps", "2",
             "--batch", str(tmp_path / "p.jsonl"), "--out", str(out), "--concurrency", str(at_a_time)], check=True,
        )  # fmt: skip
        seconds[at_a_time] = time.monotonic() - began
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["prompt"] for row in rows] == asked and all(row["text"] for row in rows)
    print(f"\n{BATCH} prompts: {seconds[8]:.1f} s with 8 at a time, {seconds[1]:.1f} s with 1")
    assert seconds[8] < seconds[1]


def test_tasks_are_done_as_well_as_on_this_machine(url: str, tmp_path: Path) -> None:
    from dgtui.train import judge
    from dgtui.train.table import TASKS, held_out

    each = -(-TABLE // len(TASKS))
    table = {task: held_out(task, each) for task in TASKS if task != "turns"}  # a batch has no earlier turns
    examples = [example for found in table.values() for example in found]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps({"prompt": e.prompt, "seed": n}) + "\n" for n, e in enumerate(examples)))
    right, steps = {}, {}
    for where, options in {"local": [], "server": ["--server", url, "--server-mode", "steps"]}.items():
        out = tmp_path / f"{where}.jsonl"
        command = [sys.executable, "-m", "dgtui", "generate", "--model", "embedded", "--batch", file, "--out", out]
        subprocess.run([*command, *options], check=True)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        right[where] = [judge.right(e.expect, row["text"]) for e, row in zip(examples, rows, strict=True)]
        steps[where] = sum(sum(row["steps"]) for row in rows) / len(rows)
    print("\n| task | prompts | local | server |\n|---|---|---|---|")
    for task, mine in table.items():
        counts = [sum(found[examples.index(e)] for e in mine) for found in right.values()]
        print(f"| {task} | {len(mine)} | {' | '.join(map(str, counts))} |")
    print(f"steps, mean: {steps['local']:.1f} local, {steps['server']:.1f} server")
    assert sum(right["server"]) >= sum(right["local"]) - len(examples) / 10


def test_spans_of_tales_are_filled_at_the_right_length(url: str, served: ServedModel, tmp_path: Path) -> None:
    from dgtui.train.lessons import tales

    right = 0
    draw = random.Random(11)
    for number in range(10):
        tale = tales.make(draw).response
        words = tale.split(" ")
        at = draw.randrange(4, len(words) - 6)
        start = len(" ".join(words[:at])) + 2
        end = start + len(" ".join(words[at : at + 2]))
        file = tmp_path / f"{number}.txt"
        file.write_text(tale)
        done = subprocess.run(
            [sys.executable, "-m", "dgtui", "infill", str(file), "--span", f"1:{start}-1:{end}", "--server", url,
             "--model", "embedded", "--server-mode", "blocks", "--steps", "4", "--seed", str(number), "--json"],
            check=True, capture_output=True,
        )  # fmt: skip
        new = json.loads(done.stdout)["spans"][0]["new"]
        fits = len(new.split()) == 2
        right += fits
        print(f"\n{words[at : at + 2]} -> {new!r} {'' if fits else 'WRONG'}", end="", flush=True)
    assert right >= 9


def test_a_canvas_is_watched_paused_pinned_and_rewritten_in_a_terminal(url: str) -> None:
    command = [sys.executable, "-m", "dgtui", "chat", "--server", url, "--model", "embedded", "--seed", "7"]
    with Terminal(command, columns=100, rows=30, env={"COLORTERM": "truecolor"}) as terminal:
        terminal.wait_for("Write a message", WAIT)
        terminal.wait_for("vLLM", WAIT)
        terminal.keys(PROMPTS[0], "enter")
        terminal.wait_for("step 1", WAIT)
        terminal.keys("shift+tab")
        terminal.wait_for("p pin", WAIT)
        terminal.keys("space")
        terminal.wait_for("paused", WAIT)
        terminal.keys("home", "right", "p")
        terminal.wait_for("1 token pinned", WAIT)
        terminal.keys("space")
        terminal.wait_for("end of reply", WAIT)
        terminal.keys("a")
        terminal.wait_for("─ alternatives", WAIT)  # not its key
        terminal.keys("esc", "home", "ctrl+right", "ctrl+right", "r")
        terminal.wait_for("re-diffuse", WAIT)
        began = time.monotonic()
        terminal.keys("esc")
        terminal.wait_for("stopped", WAIT)
        print(f"\nEsc to stopped: {time.monotonic() - began:.2f} s")


def test_a_file_is_edited_in_a_terminal_and_only_the_span_changes(url: str, tmp_path: Path) -> None:
    before, old, after = "Mira was a brave fox and had ", "a blue kite", ". Then Tom the otter came along.\n"
    tale = tmp_path / "tale.txt"
    tale.write_text(before + old + after)
    command = [sys.executable, "-m", "dgtui", "edit", tale, "--server", url, "--model", "embedded", "--seed", "5"]
    with Terminal([*command, "--server-mode", "blocks", "--steps", "4"], columns=100, rows=30) as terminal:
        terminal.wait_for(re.compile(r"embedded.* · \d+:\d+"), WAIT)
        terminal.keys("ctrl+f", old, "enter", "esc")
        terminal.wait_for(lambda t: not t.text().splitlines()[0].endswith("1:1"), WAIT)
        terminal.keys("ctrl+r")
        terminal.wait_for(re.compile(r"proposal \d+ of \d+"), WAIT)
        assert tale.read_text() == before + old + after
        terminal.keys("A")
        terminal.wait_for(lambda t: "●" in t.text().splitlines()[0], WAIT)
        terminal.keys("ctrl+s")
        terminal.wait_for(lambda t: "●" not in t.text().splitlines()[0], WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
    found = tale.read_text()
    assert found.startswith(before) and found.endswith(after) and len(found) > len(before + after)
    print(f"\n{old!r} -> {found[len(before) : -len(after)]!r}")


@pytest.mark.skipif(not VENV, reason="only a server of its own is killed")
def test_a_draft_outlives_its_server_and_the_next_message_works(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    command = [sys.executable, "-m", "dgtui", "chat", "--server", server.url, "--model", "embedded", "--seed", "7"]
    try:
        with Terminal(command, columns=100, rows=30) as terminal:
            terminal.wait_for("vLLM", WAIT)
            terminal.keys(PROMPTS[0], "enter")
            terminal.wait_for("step 2", WAIT)
            server.kill()
            terminal.wait_for("unfinished", WAIT)
            assert "lost" in terminal.text() or "answers" in terminal.text()
            server.start()
            terminal.keys("again", "enter")
            terminal.wait_for("step 1", WAIT)
    finally:
        server.kill()


def test_the_reported_probabilities_are_those_of_one_step(served: ServedModel) -> None:
    ids = served.tokenizer.chat([Message("user", PROMPTS[0])])
    stepper = served.stepper()
    stepper.seed(0, 1)
    stepper.encode(ids)
    stepper.begin([Start()], SamplerSettings(steps=1))
    body = stepper._request(stepper._rows[0], steps=1)
    (choice,) = served.client.post("/v1/completions", body)["choices"]
    found, log_probs = likeliest(choice, 256, served.tokenizer.vocab_size)
    assert found.shape == (256, 21) and (np.exp(log_probs).sum(-1) <= 1 + 1e-3 + np.exp(log_probs[:, -1])).all()
