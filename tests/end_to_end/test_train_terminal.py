"""`dgtui train` in a real terminal: its live view, and runs that are stopped, killed and continued."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pty_terminal import RICH, Terminal, audit
from safetensors.torch import load_file

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

WAIT = 120.0
STEPS = 8


def train(out: Path) -> list[str]:
    sizes = ["--steps", str(STEPS), "--rows", "2", "--length", "128", "--examples", "40"]
    return [sys.executable, "-m", "dgtui", "train", "about", "--out", str(out), "--lora", "--rank", "4", *sizes]


def at_step(number: int) -> re.Pattern[str]:
    return re.compile(rf"step (?:{'|'.join(map(str, range(number, STEPS + 1)))})/{STEPS}")


def test_a_run_that_is_stopped_and_killed_ends_with_the_same_adapter_bit_for_bit(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    piped = subprocess.run(train(whole), capture_output=True, text=True, check=True)
    assert len(re.findall(rf"^step \d+/{STEPS}  loss [\d.]+  held back ", piped.stderr, re.MULTILINE)) == STEPS

    stop_at = random.randint(1, STEPS - 2)
    with Terminal(train(out), columns=100, rows=20) as terminal:
        terminal.wait_for(at_step(stop_at), WAIT)
        terminal.keys("ctrl+c")
        assert terminal.wait_exit(WAIT).code == 130
        (stopped,) = re.findall(r"stopped at step (\d+)", terminal.text())
    with Terminal(train(out), columns=100, rows=20) as terminal:
        terminal.wait_for(f"starting at step {stopped} of {STEPS}", WAIT)
        terminal.wait_for(at_step(int(stopped) + 1), WAIT)
    # Leaving the terminal has killed it
    with Terminal(train(out), columns=100, rows=20) as terminal:
        terminal.wait_for(re.compile(r"[▁▂▃▄▅▆▇█]+ step \d+/\d+  loss [\d.]+  held back"), WAIT)
        assert terminal.wait_exit(WAIT).code == 0
        assert f"step {STEPS}/{STEPS}" in terminal.text() and "the trained adapter is in" in terminal.text()
        assert audit(terminal.raw, RICH) == []
    for name, tensor in load_file(whole / "adapter_model.safetensors").items():
        assert tensor.equal(load_file(out / "adapter_model.safetensors")[name]), f"{name}, stopped at {stopped}"
