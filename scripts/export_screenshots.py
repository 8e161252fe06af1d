"""Makes the pictures in `screenshots/` from the real program on the embedded model with a fixed seed.

python scripts/export_screenshots.py
"""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from dgtui.cli.live import canvas_text, status_line
from dgtui.diffusion.job import Job
from dgtui.message import Message
from dgtui.model import catalog
from dgtui.worker import Worker

OUT = Path(__file__).resolve().parent.parent / "screenshots"
PROMPT = "Tell me a story about Mia."
SEED = 7


def main() -> None:
    worker = Worker()
    loaded = worker.load(catalog.resolve("embedded"), device="cpu").result()
    ids = tuple(loaded.tokenizer.chat([Message("user", PROMPT)]))
    run = worker.submit(Job("picture", ids, SEED, settings=loaded.settings))
    run.wait()
    frames = run.log.frames()
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f'$ dgtui generate "{PROMPT}" --seed {SEED}', style="bold"))
    for index in sorted({0, len(frames) // 4, len(frames) // 2, len(frames) - 1}):
        frame = frames[index]
        console.print(Rule(style="dim"))
        console.print(Text(status_line(frame, SEED), style="dim"))
        console.print(canvas_text(frame, loaded.tokenizer.pieces(frame.ids.tolist())))
    svg = console.export_svg(title="dgtui generate")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no web fonts: the picture loads nothing
    OUT.mkdir(exist_ok=True)
    (OUT / "generate.svg").write_text(svg, encoding="utf-8")
    worker.close()


if __name__ == "__main__":
    main()
