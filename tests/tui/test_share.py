"""One key shares a run as a moving picture."""

from pathlib import Path

import pytest
from PIL import Image
from test_chat_screen import chat


async def test_a_key_writes_an_animated_svg_and_a_gif_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with chat() as seen:
        await seen.reply()
        steps = len(seen.steering.version.frames())
        seed = seen.steering.version.run.job.seed
        await seen.canvas("s")
        await seen.until(lambda: "shared as" in seen.notices(), "the pictures")
        picture = tmp_path / f"dgtui-{seed}.svg"
        with Image.open(tmp_path / f"dgtui-{seed}.gif") as film:
            assert film.n_frames == steps
        assert "@keyframes" in picture.read_text() and "lived" in picture.read_text()
        await seen.canvas("s")
        await seen.until((tmp_path / f"dgtui-{seed}-2.gif").exists, "a new name for the next one")
