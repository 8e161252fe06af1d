"""Every published quantized layout answers in the chat, one after the other in the same conversation."""

import shutil
from dataclasses import replace
from pathlib import Path

import drawn
import pytest
from checkpoints import tiny_checkpoint
from layouts import LAYOUTS, publish
from textual.pilot import Pilot

from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening
from dgtui.tui.screens.chat import ChatApp, ChatScreen
from dgtui.tui.theme_file import theme_folders

WAIT = 120.0
"""Seconds within which a model is loaded, or a reply is there, on a machine that has other things to do."""


@pytest.mark.slow
async def test_each_layout_is_loaded_and_answers(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from gguf_files import write

    source = tiny_checkpoint(tmp_path / "source", hidden=256)
    held = {}
    for layout in LAYOUTS:
        publish(source, folder := tmp_path / layout.replace(" ", "-"), layout)
        held[str(folder)] = layout.split()[-1].replace("W4A16", "INT4")
    beside = tmp_path / "gguf"
    shutil.copytree(source, beside)
    (beside / "model.safetensors").unlink()
    write(source, beside / "m-Q4_K_M.gguf", {"gate_up_exps": "Q4_K", "down_exps.weight": "Q5_0"}, tokenizer=False)
    held[str(beside / "m-Q4_K_M.gguf")] = "Q4_K"
    defaults = Settings()
    settings = replace(
        defaults,
        model=replace(defaults.model, name=next(iter(held))),
        sampler=replace(defaults.sampler, chosen={"steps": 2}, max_tokens=32),
    )
    backend = WorkerBackend(settings)
    app = ChatApp(backend, Store(None), settings, Opening(seed=3), theme_folders=theme_folders())
    try:
        async with app.run_test(size=(100, 30)) as pilot:
            for name in held:
                await answers(app, pilot, backend, name)
                assert backend.facts is not None and held[name] in backend.facts.dtype
    finally:
        backend.close()


async def answers(app: ChatApp, pilot: Pilot[None], backend: WorkerBackend, name: str) -> None:
    """Takes a model, unless it is the one to begin with, and waits for its reply."""
    screen = app.screen
    assert isinstance(screen, ChatScreen)
    chat = screen.conversation.chat
    before = len(chat.turns)
    if before:
        screen.prompt.load_text(f"/model {name}")
        await pilot.press("enter")
    await drawn.until(lambda: backend.facts is not None and backend.facts.name == name, WAIT)
    await pilot.pause()
    screen.prompt.load_text("Hello")
    await pilot.press("enter")
    await drawn.until(lambda: len(chat.turns) == before + 2 and not screen.panel.steering.running, WAIT)
    assert chat.turns[-1].role == "model"
