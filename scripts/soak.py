"""A long session in one process: two chat windows on one conversation, and an editor, used at random.

    PYTHONPATH=. python scripts/soak.py [--turns 300] [--edits 150] [--rewrites 30] [--seed 1]

The screens, the history, the journal and the engine are the real ones; the model is scripted. Turns alternate between
the windows, and a third of all runs is stopped at a random moment. Windows are resized, the process is suspended while
it works, and conversations are left for new ones. Every tenth of the session it prints memory, threads, descriptors and
the time of a key. At the end it fails if one of them has grown.
"""

import argparse
import asyncio
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "tui"), str(ROOT / "tests")]

import psutil  # noqa: E402
from scripted import WORDS, ScriptedBackend  # noqa: E402

from dgtui.config import Settings  # noqa: E402
from dgtui.document.open_file import OpenFile  # noqa: E402
from dgtui.session.store import Store  # noqa: E402
from dgtui.tui.conversation_controller import Opening  # noqa: E402
from dgtui.tui.screens.chat import ChatApp  # noqa: E402
from dgtui.tui.screens.edit import EditApp, EditOpening  # noqa: E402
from dgtui.tui.theme_file import theme_folders  # noqa: E402

GROWTH = 1.05
"""The least memory of the last three measurements, as a factor of the most of the first three."""
SLOWER = 1.5
"""The same for the time of a key."""
TURNS_EACH = 20
"""Turns of a conversation before a new one begins."""
TEXT = "One day the fox sat by the river. The hare stood by the lake and sang.\n" * 20


class Speller(ScriptedBackend):
    """A scripted model whose words have the blank before them, as an editor needs them."""

    def pieces(self, ids: Any) -> list[bytes]:
        return [b"" if i < 3 else b" " + WORDS[i - 3].encode() for i in ids]


async def until(pilot: Any, holds: Callable[[], Any], what: str) -> None:
    """Waits for a condition."""
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"this did not happen: {what}")
        await pilot.pause(0.005)


class Window:
    """A chat window."""

    def __init__(self, app: ChatApp, pilot: Any, chance: random.Random) -> None:
        self.app, self.pilot, self.chance = app, pilot, chance

    async def turn(self) -> None:
        """Sends a message; stops a third of the replies at a random moment."""
        chat = self.app.chat
        assert chat is not None
        chat.prompt.focus()
        chat.prompt.load_text(f"tell me {self.chance.choice(['why', 'now', 'a red hello'])}")
        await self.pilot.press("enter")
        await self._run()
        if len(chat.conversation.chat.turns) >= TURNS_EACH:
            await self.say("/new")

    async def rewrite(self) -> None:
        """Re-diffuses a random span of the reply on the canvas."""
        chat = self.app.chat
        assert chat is not None
        if (version := chat.panel.steering.version) is None or version.ids(version.block) is None:
            return
        chat.panel.open()
        chat.panel.canvas.select(*sorted(self.chance.sample(range(12), 2)))
        await self.pilot.press("r")
        await self._run()

    async def _run(self) -> None:
        steering = self.app.chat.panel.steering  # type: ignore[union-attr]
        await self.pilot.pause(self.chance.random() * 0.1)
        if self.chance.random() < 1 / 3:
            steering.stop()
        await until(self.pilot, lambda: not steering.running, "the end of a run")
        await self.pilot.pause()

    async def say(self, text: str) -> None:
        """Sends a command."""
        self.app.chat.prompt.focus()  # type: ignore[union-attr]
        self.app.chat.prompt.load_text(text)  # type: ignore[union-attr]
        await self.pilot.press("enter")
        await self.pilot.pause()

    async def join(self, conversation: str | None) -> None:
        """Opens the conversation of the other window."""
        if conversation is not None and self.app.chat is not None:
            self.app.chat.guarded(lambda: self.app.chat.conversation.open(conversation))  # type: ignore[union-attr]
            await self.pilot.pause()


class Writer:
    """An editor window."""

    def __init__(self, app: EditApp, pilot: Any, chance: random.Random) -> None:
        self.app, self.pilot, self.chance = app, pilot, chance

    async def edit(self) -> None:
        """Types and deletes; a fifth of the edits is a proposal of the model."""
        screen = self.app.edit
        assert screen is not None
        data = screen.files.file.buffer.data
        at = self.chance.randrange(len(data))
        if self.chance.random() < 0.2:
            screen.editor.select(at, min(len(data), at + 8))
            await self.pilot.press("ctrl+r")
            proposals = screen.proposals
            await until(self.pilot, lambda: proposals.search is None, "the end of a search")
            await self.pilot.press(self.chance.choice(["A", "X"]), "escape")
        else:
            screen.editor.cursor = at
            await self.pilot.press(*self.chance.choice([("x", "y"), ("backspace", "z"), ("ctrl+z",), ("ctrl+s",)]))
        await self.pilot.pause()


async def key_seconds(pilot: Any, app: ChatApp) -> float:
    """The processor time of a key in the prompt, the median of ten."""
    assert app.chat is not None
    app.chat.prompt.focus()
    seconds = []
    for _ in range(10):
        began = time.thread_time()
        await pilot.press("x")
        seconds.append(time.thread_time() - began)
    app.chat.prompt.load_text("")
    return statistics.median(seconds)


def measured() -> tuple[float, int, int]:
    """Memory in MB, threads, descriptors."""
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6, threading.active_count(), len([*Path("/proc/self/fd").iterdir()])


def suspend_soon(chance: random.Random) -> "subprocess.Popen[bytes]":
    """Stops this process for 50 ms within the next 50, as a shell does, and lets it continue."""
    script = f"sleep {chance.random() * 0.05}; kill -STOP {os.getpid()}; sleep 0.05; kill -CONT {os.getpid()}"
    return subprocess.Popen(["sh", "-c", script])


async def session(args: argparse.Namespace, folder: Path) -> list[tuple[float, int, int, float]]:
    """Runs the session. Returns what was measured every tenth of it."""
    chance, found = random.Random(args.seed), []
    file = folder / "tale.md"
    file.write_text(TEXT)
    stores = [Store(folder / "history.db") for _ in range(2)]
    backends = [ScriptedBackend(seconds=0.002), ScriptedBackend(seconds=0.002), Speller(seconds=0.002)]
    chats = [
        ChatApp(backend, store, Settings(), Opening(seed=n), theme_folders=theme_folders())
        for n, (backend, store) in enumerate(zip(backends, stores, strict=False))
    ]
    editor = EditApp(backends[2], OpenFile(file), Settings(), EditOpening(seed=3), theme_folders=theme_folders())
    async with AsyncExitStack() as stack:
        pilots = [await stack.enter_async_context(app.run_test(size=(100, 30))) for app in (*chats, editor)]
        windows = [Window(app, pilot, chance) for app, pilot in zip(chats, pilots, strict=False)]
        writer = Writer(editor, pilots[2], chance)
        for backend, pilot in zip(backends, pilots, strict=True):
            await until(pilot, lambda backend=backend: backend.facts is not None, "a model")
        work = ["turn"] * args.turns + ["edit"] * args.edits + ["rewrite"] * args.rewrites
        chance.shuffle(work)
        for done, what in enumerate(work, start=1):
            window = windows[done % 2]
            suspension = suspend_soon(chance) if chance.random() < 0.05 else None
            if what == "edit":
                await writer.edit()
            else:
                await (window.turn() if what == "turn" else window.rewrite())
            for backend in backends:  # it keeps what it was asked, for tests
                backend.jobs.clear()
                backend.runs.clear()
            if chance.random() < 0.1:
                await chance.choice(pilots).resize_terminal(chance.randrange(40, 140), chance.randrange(12, 50))
            if chance.random() < 0.05:
                other = windows[(done + 1) % 2].app.chat
                await window.join(other.conversation.chat.id if other else None)
            if suspension is not None:
                suspension.wait()
            if done % max(1, len(work) // 10) == 0:
                for pilot in pilots:
                    await pilot.resize_terminal(100, 30)
                found.append((*measured(), await key_seconds(pilots[0], chats[0])))
                memory, threads, files, key = found[-1]
                print(
                    f"{done:4} of {len(work)}: {memory:.0f} MB, {threads} threads, {files} descriptors, "
                    f"{key * 1000:.1f} ms a key",
                    flush=True,
                )
    for backend in backends:
        backend.close()
    for store in stores:
        store.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("turns", 300), ("edits", 150), ("rewrites", 30), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=count)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            os.environ[variable] = folder
        found = asyncio.run(session(args, Path(folder)))
    early, late = [*zip(*found[:3], strict=True)], [*zip(*found[-3:], strict=True)]
    limits = {"MB": GROWTH, "threads": 1.0, "descriptors": 1.0, "seconds a key": SLOWER}
    faults = [
        f"{name}: {max(before):.4g} → {min(after):.4g}"
        for (name, most), before, after in zip(limits.items(), early, late, strict=True)
        if min(after) > max(before) * most
    ]
    print("; ".join(faults) or "nothing has grown")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
