"""Measures the cost and the response time of the chat screen through a pseudo-terminal of 100x30.

    PYTHONPATH=. python scripts/bench_chat.py [--pairs 5]

Throughput is a ratio: the time of a denoising step with the screen over that of `dgtui generate` without one, in
alternating runs of the same prompt, seed and number of steps, read from the recordings of both. The scripted model
sleeps 10 ms a step and so releases the GIL as a GPU would. Answers to keys are timed from the write of the key to the
first output that holds it. The terminal only reads: an emulator in Python would take a core for itself.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "end_to_end"), str(ROOT / "tests")]

from pty_terminal import Terminal  # noqa: E402

from dgtui.session import recording  # noqa: E402

PROMPT = "Tell me a story about Mia the fox and Ben."
STEPS = 120
WAIT = 40.0
SCRIPTED_STEPS = 200
STOPPED_STEP_SECONDS = 0.05
ESCAPES = {"Esc": "\x1b[27u", "Esc of an older terminal": "\x1b"}
"the second could be the beginning of another key: Textual waits up to 0.1 s for more"
SIGNS = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
"typed during a reply; no other text on the screen contains them"
PREVIEWED = (
    "# A house\n\n- by the **sea**\n\n"
    + "Words and more words. " * 40
    + ('<svg viewBox="0 0 40 20"><rect width="40" height="20" fill="#8cf"/><circle cx="{:.3f}" cy="5" r="3"/></svg>')
)


class Reader(Terminal):
    """A terminal that stores its input without interpreting it."""

    def _take(self, data: bytes) -> bytes:
        with self._news:
            self.chunks.append((self.clock(), data))
            self._news.notify_all()
        return data

    def wait_for_output(self, pattern: str, *, after: int = 0) -> float:
        """Waits for a pattern in the output after a chunk. Returns the time of the chunk that completed it."""
        sought = re.compile(pattern.encode())
        return self.wait_for(lambda _: sought.search(b"".join(data for _, data in self.chunks[after:])), WAIT)


def step_seconds(path: Path) -> float:
    """Mean time of a denoising step of a recorded run, without the first two (caches)."""
    times = [frame.seconds for frame in recording.load(path).log.frames()][1:]
    return (times[-1] - times[0]) / (len(times) - 1)


def headless(folder: Path, environment: dict[str, str]) -> float:
    """A run of `dgtui generate` in a pipe."""
    out = folder / "headless.dgtui"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dgtui", "generate", PROMPT, "--seed", "7", "--record", str(out)]
    subprocess.run([*command, "--model", "embedded", *never_settle()], env=environment, check=True, capture_output=True)
    return step_seconds(out)


def never_settle() -> list[str]:
    """Options that make every run take all of its steps."""
    return ["--steps", str(STEPS), "--stability", "-1"]


def screen(folder: Path, environment: dict[str, str]) -> tuple[float, dict[str, list[float]]]:
    """A run in the chat: the time of a step and all other measurements, in seconds."""
    out = folder / "screen.dgtui"
    out.unlink(missing_ok=True)
    seen: dict[str, list[float]] = {}
    command = [sys.executable, "-m", "dgtui", "chat", "--no-history", "--seed", "7", "--record", str(out)]
    with Reader([*command, "--model", "embedded", *never_settle()], columns=100, rows=30, env=environment) as t:
        seen["first paint"] = [t.wait_for_output("rite a message")]
        seen["model ready"] = [t.wait_for_output("float32")]
        t.keys(PROMPT)
        time.sleep(0.5)  # an Enter that comes with other input is a line break
        t.keys("enter")
        t.wait_for_output(r"step \d+/")
        seen["answer to a key"] = [answer(t, sign) for sign in SIGNS]
        t.wait_for_output("recorded to")
        began = t.clock()
        t.keys("ctrl+q")
        seen["quit"] = [t.wait_exit(WAIT).seconds - began]
    return step_seconds(out), seen


def answer(terminal: Reader, sign: str) -> float:
    """Seconds from a key to the output that contains it."""
    known, began = len(terminal.chunks), terminal.clock()
    terminal.keys(sign)
    return terminal.wait_for_output(sign, after=known) - began


def stop_steps(key: str, folder: Path, environment: dict[str, str]) -> float:
    """Number of denoising steps that a scripted model still computed after a key was written."""
    out = folder / "stop.json"
    with Reader([sys.executable, __file__, "--scripted", "stop", str(out)], columns=100, rows=30, env=environment) as t:
        t.wait_for_output(r"step \d+/")
        t.keys("shift+tab")
        time.sleep(0.3)
        began = time.monotonic()
        t.keys(key)
        t.wait_exit(WAIT)
    return float(json.loads(out.read_text())["computed_until"] - began) / STOPPED_STEP_SECONDS


def scripted(kind: str, environment: dict[str, str]) -> float:
    """Seconds that a model takes that sleeps 10 ms per step: "headless", with the "screen", or with a "preview" too."""
    if kind == "headless":
        done = subprocess.run(
            [sys.executable, __file__, "--scripted", kind], env=environment, check=True, capture_output=True
        )
        return float(json.loads(done.stdout)["seconds"])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seconds.json"
        with Reader(
            [sys.executable, __file__, "--scripted", kind, str(out)], columns=100, rows=30, env=environment
        ) as t:
            t.wait_exit(WAIT)
        return float(json.loads(out.read_text())["seconds"])


def run_scripted(kind: str, out: str | None) -> None:
    """In a separate process: `SCRIPTED_STEPS` steps, and the seconds they took."""
    import torch
    from scripted import ScriptedBackend

    from dgtui.diffusion.job import Job, SamplerSettings

    class Backend(ScriptedBackend):
        def __init__(self) -> None:
            super().__init__(seconds=STOPPED_STEP_SECONDS if kind == "stop" else 0.01, steps=10**6)
            self.computed_until = 0.0
            compute = self.denoiser.logits

            def logits(canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
                found = compute(canvas_ids, self_conditioning)
                self.computed_until = time.monotonic()
                return found

            self.denoiser.logits = logits  # type: ignore[method-assign]

    backend = Backend()
    settings = SamplerSettings(steps=SCRIPTED_STEPS, stability=-1)

    def seconds(run: object) -> float:
        frames = run.log.frames()  # type: ignore[attr-defined]
        return float(frames[-1].seconds - frames[0].seconds)

    if kind == "headless":
        backend.load(None, lambda stage: None).result()
        run = backend.submit(Job("bench", (2, 5), 7, 48, settings), lambda run, upto: None)
        run.ended.result()
        print(json.dumps({"seconds": seconds(run)}))
        return

    from dgtui.config import Settings
    from dgtui.session.store import Store
    from dgtui.tui.opening import Opening
    from dgtui.tui.screens.chat import ChatApp
    from dgtui.tui.textual_patches import patch_driver
    from dgtui.tui.theme_file import theme_folders
    from dgtui.tui.widgets.canvas_panel import CanvasPanel

    sys.setswitchinterval(0.0005)

    class Benched(ChatApp):
        def on_canvas_panel_changed(self, message: CanvasPanel.Changed) -> None:
            if message.version.run.ended.done():
                assert out is not None
                found = {"seconds": seconds(message.version.run), "computed_until": backend.computed_until}
                Path(out).write_text(json.dumps(found))
                self.exit()

    app = Benched(backend, Store(None), Settings(), Opening(seed=7), theme_folders=theme_folders())

    def begin() -> None:
        if backend.facts is None:
            app.set_timer(0.05, begin)
            return
        chat = app.screen
        chat.conversation.chat.settings = {"steps": SCRIPTED_STEPS, "stability": -1}  # type: ignore[attr-defined]
        chat.send("tell me")  # type: ignore[attr-defined]
        if kind == "preview":  # a text and a drawing that are other ones at every look
            chat.preview.text = lambda: PREVIEWED.format(time.monotonic() % 40)  # type: ignore[attr-defined]
            chat.action_preview()  # type: ignore[attr-defined]

    app.call_later(begin)
    patch_driver()
    app.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scripted", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scripted:
        run_scripted(args.scripted[0], args.scripted[1] if len(args.scripted) > 1 else None)
        return

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLORTERM": "truecolor", "HOME": name}
        environment["ESCDELAY"] = "25"  # as the program sets it
        environment |= {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
        ratios, scripted_ratios, preview_ratios, seen = [], [], [], dict[str, list[float]]()
        for pair in range(args.pairs):
            alone = headless(folder, environment)
            with_screen, found = screen(folder, environment)
            ratios.append(alone / with_screen)
            bare = scripted("headless", environment)
            scripted_ratios.append(bare / scripted("screen", environment))
            preview_ratios.append(bare / scripted("preview", environment))
            for what, values in found.items():
                seen.setdefault(what, []).extend(values)
            print(
                f"pair {pair + 1}: step {alone * 1000:.1f} ms alone, {with_screen * 1000:.1f} ms with the screen, "
                f"throughput {ratios[-1]:.1%}; scripted 10 ms model {scripted_ratios[-1]:.1%}",
                flush=True,
            )
        stops = {name: [stop_steps(key, folder, environment) for _ in range(5)] for name, key in ESCAPES.items()}
    print(f"\nthroughput with the screen, median of {args.pairs} pairs: {statistics.median(ratios):.1%}")
    print(f"the same with the scripted 10 ms model: {statistics.median(scripted_ratios):.1%}")
    print(f"the same with the preview open: {statistics.median(preview_ratios):.1%}")
    for what, values in seen.items():
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        print(f"{what}: median {statistics.median(values) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms ({len(values)})")
    for name, counts in stops.items():
        print(f"computed after {name}, in denoising steps:", ", ".join(f"{count:.2f}" for count in counts))


if __name__ == "__main__":
    main()
