"""A recorded run as one web page with a player. It loads nothing, not even fonts, and works as a local file.

The content security policy allows only the script and the style sheet of the page, by their hashes. Texts are escaped
in the page, and the script inserts them as text, never as markup. Without scripting, the last step is shown.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.style import Style

from dgtui.tui.exports.exporter import ASKED, Exporter, Paint, Snapshot
from dgtui.tui.exports.svg import FONTS, css, playhead
from dgtui.tui.widgets.brush import Ink

_HERE: Final = Path(__file__).parent
_BARS: Final = 30
_METERS: Final = 200
"""Cells for the meters. Generous: a page wraps its lines."""


def page(exporter: Exporter, steps: Sequence[int], first: int = 0) -> str:
    """The steps (counted from 0) as an HTML document, which opens at the step nearest to `first`."""
    return _Page(exporter).draw(list(steps), min(range(len(steps)), key=lambda n: abs(steps[n] - first)))


class _Page:
    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self._classes: dict[Paint, int] = {}
        self._rows: dict[tuple[Any, ...], int] = {}

    def draw(self, steps: list[int], first: int) -> str:
        snapshots = [self.exporter.snapshot(at) for at in steps]
        data = self._data(snapshots, first)
        height = max(len(snapshot.rows) for snapshot in snapshots)
        last = snapshots[-1]
        script = (_HERE / "player.js").read_text(encoding="utf-8")
        style = self._css(height)
        policy = (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
            "form-action 'none'"
        )
        rows = "\n".join(f"<div>{''.join(self._span(*part) for part in row)}</div>" for row in last.rows)
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="{"dark" if self.exporter.theme.dark else "light"}">
<title>{escape(self.exporter.title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<p class="ask">{escape(ASKED + self.exporter.prompt)}</p>
<p class="small" id="status">{escape(data["status"][-1])}</p>
<div id="page" role="group" aria-label="canvas">
{rows}
</div>
{self._bars(last.at)}
<div id="controls" hidden>
<input type="range" id="steps" min="0" max="{len(steps) - 1}" value="{len(steps) - 1}" aria-label="denoising step">
<button type="button" id="play">play</button>
<label>speed <select id="speed"><option value="0.05">1/20</option><option value="0.1">1/10</option>
<option value="0.25">1/4</option><option value="0.5">1/2</option><option value="1" selected>1</option>
<option value="2">2</option><option value="4">4</option></select></label>
<output id="clock"></output>
</div>
<p class="small" id="meters">{escape(data["meters"][-1])}</p>
<p class="small" id="keys" hidden>space plays · ← → one step · home end · + - speed</p>
</main>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""

    def _data(self, snapshots: Sequence[Snapshot], first: int) -> dict[str, Any]:
        """The data for the script. Rows are numbered, because most steps share most rows with the previous one."""
        pages = [[self._row(row) for row in snapshot.rows] for snapshot in snapshots]
        bars = self.exporter.bars()
        recorded = self.exporter.recorded
        return {
            "first": first,
            "rows": list(self._rows),
            "pages": pages,
            "status": [recorded.status(snapshot.at) for snapshot in snapshots],
            "meters": [recorded.meters(snapshot.at, _METERS) for snapshot in snapshots],
            "times": [round(recorded.pace[snapshot.at], 4) for snapshot in snapshots],
            "seconds": [round(recorded.seconds[snapshot.at], 4) for snapshot in snapshots],
            "bars": [playhead(bars, snapshot.at) for snapshot in snapshots],
        }

    def _row(self, ink: Ink) -> int:
        row = tuple(part for text, style in ink for part in (self._class(self.exporter.paint(style)), text))
        return self._rows.setdefault(row, len(self._rows))

    def _class(self, paint: Paint) -> int:
        return self._classes.setdefault(paint, len(self._classes))

    def _span(self, text: str, style: Style) -> str:
        return f'<span class="c{self._class(self.exporter.paint(style))}">{escape(text)}</span>'

    def _bars(self, at: int) -> str:
        bars, exporter = self.exporter.bars(), self.exporter
        drawn = "".join(
            f'<rect x="{number}" y="{_BARS * (1 - max(bar.height, 0.06)):.2f}" width=".8" '
            f'height="{_BARS * max(bar.height, 0.06):.2f}" fill="{exporter.rgb(exporter.look.ramp(bar.nats))}"/>'
            for number, bar in enumerate(bars)
        )
        return (
            f'<svg id="bars" viewBox="0 0 {len(bars)} {_BARS}" preserveAspectRatio="none" role="img" '
            f'aria-label="mean entropy of each step">{drawn}</svg>'
        )

    def _css(self, height: int) -> str:
        exporter = self.exporter
        paints = [f"#page .c{number}{{{_css_of(paint)}}}" for paint, number in self._classes.items()]
        sheet = (_HERE / "player.css").read_text(encoding="utf-8")
        names = {"ground": exporter.ground, "text": exporter.text, "muted": exporter.muted, "border": exporter.border,
                 "accent": exporter.accent, "fonts": FONTS, "width": f"{exporter.width}ch",
                 "height": f"{1.5 * max(1, height):g}em"}  # fmt: skip
        return f":root{{{';'.join(f'--{name}:{value}' for name, value in names.items())}}}\n{sheet}" + "\n".join(paints)


def _css_of(paint: Paint) -> str:
    ground = f";background:{paint.ground}" if paint.ground else ""
    return f"color:{paint.color}{ground}{css(paint)}"


def _json(data: dict[str, Any]) -> str:
    """JSON without any character that is markup in HTML."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
