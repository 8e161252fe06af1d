"""A planted key, prompt and path are searched for in all that a run leaves: logs, messages, files, tracebacks."""

import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serving, words

from dgtui.cli import main
from dgtui.cli.backend import WorkerBackend
from dgtui.config import load as load_settings
from dgtui.errors import DgtuiError
from dgtui.message import Message
from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening
from dgtui.tui.screens.chat import ChatApp
from dgtui.tui.theme_file import theme_folders

KEY = "sk-planted-0123456789"
PROMPT = "the lighthouse keeper hides a map"
FOLDER = "planted-folder"


@pytest.fixture
def no_network() -> None:
    """The servers of these tests are threads of this process."""


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Path:
    """The key is set, everything is logged, and files are written into a folder with a name of its own."""
    monkeypatch.setenv("DGTUI_SERVER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


FAILURES: list[Any] = [
    (500, {"error": {"message": "EngineCore encountered an issue."}}),
    (401, {"error": "unauthorised"}),
    (400, {"error": {"message": "the context is full"}}),
    [*words("Once ")[:1], {"error": {"message": "CUDA out of memory"}}],
    [b"data: {brok\n\n"],
    [],
]


@pytest.mark.parametrize("reply", [words("Once there was a fox."), *FAILURES])
def test_a_command_leaves_none_of_them_behind(
    planted: Path, reply: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    record = planted / "run.dgtui"
    with serving(reply) as server:
        main(["generate", PROMPT, "--server", server.url, "--server-mode", "chat", "--record", str(record)])
        assert server.asked and server.keys == {f"Bearer {KEY}"}
    said = "".join(capsys.readouterr())
    assert all(secret not in caplog.text for secret in (KEY, PROMPT, FOLDER))
    assert KEY not in said and PROMPT not in said
    assert all(KEY.encode() not in path.read_bytes() for path in planted.parent.rglob("*") if path.is_file())


async def test_a_conversation_is_stored_without_the_key(planted: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    with serving([*words("Once ")[:1], ended.wait, {"error": {"message": "EngineCore died"}}]) as server:
        settings, _ = load_settings(flags={"model.server": server.url, "model.server_mode": "chat"})
        backend, store = WorkerBackend(settings, text=True), Store(planted / "history.db")
        opening = Opening(record=planted / "run.dgtui")
        app = ChatApp(backend, store, settings, opening, theme_folders=theme_folders())
        async with app.run_test() as pilot:

            async def until(holds: Callable[[], Any]) -> None:
                for _ in range(3000):
                    if holds():
                        return
                    await pilot.pause(0.01)
                raise AssertionError("it never came to pass")

            screen: Any = app.chat
            await until(lambda: backend.facts)
            screen.prompt.load_text(PROMPT)
            await pilot.press("enter")
            await until(lambda: screen.panel.steering.running and screen.panel.steering.version.frames())
            ended.set()
            await until(lambda: not screen.panel.steering.running)
        backend.close()
        store.close()
    kept = [path.read_bytes() for path in planted.parent.rglob("*") if path.is_file()]
    assert any(PROMPT.encode() in data for data in kept), "the history holds the conversation"
    assert all(KEY.encode() not in data for data in kept)
    assert all(secret not in caplog.text for secret in (KEY, PROMPT, FOLDER))


@pytest.mark.parametrize("reply", FAILURES)
def test_no_frame_of_a_traceback_holds_the_key(reply: Any) -> None:
    with serving(reply) as server:
        error = failure(server)
    chain: BaseException | None = error
    while chain is not None:
        shown = traceback.TracebackException.from_exception(chain, capture_locals=True)
        own = [frame for frame in shown.stack if "dgtui" in frame.filename]
        assert KEY not in "".join(traceback.StackSummary.from_list(own).format()) + str(chain) + repr(chain)
        chain = chain.__cause__ or chain.__context__


def failure(server: ChatServer) -> DgtuiError:
    """The error of a run."""
    from dgtui.diffusion.job import Job

    settings, _ = load_settings(flags={"model.server": server.url, "model.server_mode": "chat"})
    backend = WorkerBackend(settings, text=True)
    try:
        facts = backend.load(None, lambda stage: None).result(240)
        job = Job("j", tuple(backend.chat([Message("user", PROMPT)])), 1, 8, facts.settings)
        with pytest.raises(DgtuiError) as error:
            backend.submit(job, lambda run, upto: None).ended.result(240)
        return error.value
    finally:
        backend.close()
