"""Imports stay light: `--help` and shell completion answer before anything heavy could have loaded."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"PIL", "numpy", "textual", "torch", "transformers"}


def heavy_modules_after(code: str) -> set[str]:
    """Run `code` in a fresh interpreter; return what it left loaded of `HEAVY`."""
    report = "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module", ["dgtui", "dgtui.cli", "dgtui.config", "dgtui.errors", "dgtui.paths", "dgtui.rules", "dgtui.text"]
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    assert heavy_modules_after(f"import {module}") == set()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['dgtui', '--help']\n"
        "try:\n"
        "    runpy.run_module('dgtui', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
    )
    assert heavy_modules_after(code) == set()


def test_the_algorithm_loads_neither_screen_nor_transformers() -> None:
    assert heavy_modules_after("import dgtui.diffusion") <= {"numpy", "torch"}


PAINTED = """
import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
import dgtui.cli.backend
from dgtui.config import Settings
from dgtui.session.store import Store
from dgtui.tui.opening import Opening
from dgtui.tui.screens.chat import ChatApp
from dgtui.tui.theme_file import theme_folders

async def paint():
    backend = SimpleNamespace(facts=None, load=lambda name, progress: Future(), close=lambda: None)
    app = ChatApp(backend, Store(None), Settings(), Opening(), theme_folders=theme_folders())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        assert app.screen.prompt.region.height

asyncio.run(paint())
"""


def test_the_chat_is_painted_before_arrays_and_models_are_imported() -> None:
    assert heavy_modules_after(PAINTED) == {"textual"}


def test_a_server_is_used_without_torch() -> None:
    code = "import dgtui.server.served, dgtui.model.generation, dgtui.model.tokenizer"
    assert heavy_modules_after(code) <= {"numpy", "PIL"}


def test_the_engine_and_its_stepper_protocol_need_no_torch() -> None:
    assert heavy_modules_after("import dgtui.diffusion.engine, dgtui.diffusion.stepper") == {"numpy"}
