"""A vocabulary of the published size, 262,144 entries: loaded while the screen says so, chatted with, edited with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import drawn
import pytest
from gemma_vocabulary import CONTROLS, ENTRIES, UNUSED, real_vocabulary
from textual.app import App
from textual.pilot import Pilot
from tokenizers import Tokenizer

from dgtui.cli import main
from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.document.open_file import OpenFile
from dgtui.layout import BLANK_SIGN, shown_tokens
from dgtui.model import tokenizer
from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening
from dgtui.tui.frames import view_at
from dgtui.tui.screens.chat import ChatApp, ChatScreen
from dgtui.tui.screens.edit import EditApp, EditOpening
from dgtui.tui.theme_file import theme_folders

pytestmark = pytest.mark.slow

WAIT = 120.0
"""Seconds within which a model is loaded, or a reply is there, on a machine that has other things to do."""
CODE = b"def \xe5\x8a\xa0(a, b):\r\n\treturn a  +  b\r\n\r\nprint(\xe5\x8a\xa0(1, 2))\r\n"
"""Line ends of Windows, tabs, double blanks, characters of three bytes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_vocabulary(tmp_path_factory.mktemp("real") / "model")


@asynccontextmanager
async def running(app: App[None], backend: WorkerBackend) -> AsyncIterator[Pilot[None]]:
    try:
        async with app.run_test(size=(100, 30)) as pilot:
            await drawn.until(lambda: backend.facts is not None, WAIT)
            await pilot.pause()
            yield pilot
    finally:
        backend.close()


def settings(folder: Path) -> Settings:
    """With few steps: what a random model writes does not matter."""
    defaults = Settings()
    sampler = replace(defaults.sampler, chosen={"steps": 4})
    return replace(defaults, model=replace(defaults.model, name=str(folder)), sampler=sampler)


async def test_it_is_announced_before_the_library_holds_the_interpreter_and_noise_is_quiet(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = WorkerBackend(settings(folder))
    app = ChatApp(backend, Store(None), settings(folder), Opening(seed=3), theme_folders=theme_folders())
    announced: list[str] = []

    class Watched:
        @staticmethod
        def from_buffer(data: bytes) -> Any:
            announced.append(drawn.text(app))
            return Tokenizer.from_buffer(data)

    monkeypatch.setattr(tokenizer, "Tokenizer", Watched)
    async with running(app, backend) as pilot:
        assert len(announced) == 1 and "reading the tokenizer" in announced[0]
        loaded = backend._loaded.tokenizer
        assert loaded.vocab_size == ENTRIES
        text = CODE.decode() + "<turn|> <unused7> ▁ <0x41> \U0001f642"
        assert loaded.decode_bytes(loaded.encode(text)) == text.encode()
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        screen.prompt.load_text("Hello")
        await pilot.press("enter")
        chat = screen.conversation.chat
        await drawn.until(lambda: len(chat.turns) == 2, WAIT)
        version, facts = screen.panel.steering.version, backend.facts
        assert version is not None and version.run is not None and facts is not None
        log = version.run.log
        for at in range(len(log.frames(0)) + 1):
            _, view = view_at(log, 0, at, 0, backend.pieces, facts.model.stop_ids)
            tokens = shown_tokens(view.pieces, view.settled.tolist())
            assert not any("unused" in tokens[place] for place, firm in enumerate(view.settled) if not firm)
        names = backend.pieces(UNUSED)
        assert names[7] == b"<unused7>"
        assert set(shown_tokens(names, [False] * len(names))) == {BLANK_SIGN}, "ids that Gemma left free, as noise"
        assert set(shown_tokens(backend.pieces(list(CONTROLS)), [False] * len(CONTROLS))) == {""}


async def test_a_file_is_edited_and_every_byte_outside_the_span_is_kept(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sum.py"
    path.write_bytes(CODE)
    backend = WorkerBackend(settings(folder))
    app = EditApp(backend, OpenFile(path), settings(folder), EditOpening(seed=3), theme_folders=theme_folders())
    async with running(app, backend) as pilot:
        start = CODE.index(b"a  +  b")
        assert app.edit is not None
        app.edit.editor.select(start, start + len(b"a  +  b"))
        await pilot.pause()
        app.edit.action_rediffuse()
        proposals = app.edit.proposals
        await drawn.until(lambda: proposals.search is None and proposals.review is not None, WAIT)
        await pilot.pause()
        await pilot.press("A")
        await pilot.pause()
        changed = app.edit.files.file.buffer.data
        assert changed != CODE
        assert changed.startswith(CODE[:start]) and changed.endswith(CODE[start + len(b"a  +  b") :])


def test_a_span_is_infilled_on_the_command_line(
    folder: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "sum.py"
    path.write_bytes(CODE)
    command = ["infill", str(path), "--span", "2:9-2:16", "--length", "4", "--candidates", "1", "--seed", "5"]
    assert main([*command, "--model", str(folder)]) == 0
    out = capsysbinary.readouterr().out
    assert out != CODE and out.startswith(CODE[:24]) and out.endswith(CODE[31:])
