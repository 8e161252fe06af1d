"""A recorded run as one web page that can be scrubbed and played: no web fonts, nothing loaded, works from a disk.

The page's policy (CSP) allows the one script and the one style sheet that are written here, by their hashes. Texts are
escaped in the page and put into it as text by the script, never as markup; without scripts the last step is shown.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.style import Style

from dgtui.text import sanitize, truncate
from dgtui.tui.film.still import ASKED, Paint, Still, Studio
from dgtui.tui.film.svg import FONTS, css, playhead
from dgtui.tui.widgets.brush import Ink

_HERE: Final = Path(__file__).parent
_BARS: Final = 30
_METERS: Final = 200
"""Cells for the meters: a page breaks lines by itself."""


def page(studio: Studio, steps: Sequence[int], first: int = 0) -> str:
    """The steps (from 0) as an HTML document, opened at the one of them that is nearest to `first`."""
    return _Page(studio).draw(list(steps), min(range(len(steps)), key=lambda n: abs(steps[n] - first)))


class _Page:
    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._classes: dict[Paint, int] = {}
        self._rows: dict[tuple[Any, ...], int] = {}

    def draw(self, steps: list[int], first: int) -> str:
        stills = [self.studio.still(at) for at in steps]
        film = self._film(stills, first)
        height = max(len(still.rows) for still in stills)
        last = stills[-1]
        script = (_HERE / "player.js").read_text(encoding="utf-8")
        style = self._css(height)
        policy = (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
            "form-action 'none'"
        )
        model = truncate(sanitize(self.studio.course.recording.model, newlines=False, tabs="replace"), 80)
        title = escape(f"dgtui: {model}, seed {self.studio.course.recording.log.job.seed}")
        rows = "\n".join(f"<div>{''.join(self._span(*part) for part in row)}</div>" for row in last.rows)
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="{"dark" if self.studio.theme.dark else "light"}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<p class="ask">{escape(ASKED + self.studio.prompt)}</p>
<p class="small" id="status">{escape(film["status"][-1])}</p>
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
<p class="small" id="meters">{escape(film["meters"][-1])}</p>
<p class="small" id="keys" hidden>space plays · ← → one step · home end · + - speed</p>
</main>
<script type="application/json" id="film">{_json(film)}</script>
<script>{script}</script>
</body>
</html>
"""

    def _film(self, stills: Sequence[Still], first: int) -> dict[str, Any]:
        """What the script reads. Rows are numbered: most steps share most of theirs with the step before."""
        pages = [[self._row(row) for row in still.rows] for still in stills]
        bars = self.studio.bars()
        course = self.studio.course
        return {
            "first": first,
            "rows": list(self._rows),
            "pages": pages,
            "status": [course.status(still.at) for still in stills],
            "meters": [course.meters(still.at, _METERS) for still in stills],
            "times": [round(course.pace[still.at], 4) for still in stills],
            "seconds": [round(course.seconds[still.at], 4) for still in stills],
            "bars": [playhead(bars, still.at) for still in stills],
        }

    def _row(self, ink: Ink) -> int:
        row = tuple(part for text, style in ink for part in (self._class(self.studio.paint(style)), text))
        return self._rows.setdefault(row, len(self._rows))

    def _class(self, paint: Paint) -> int:
        return self._classes.setdefault(paint, len(self._classes))

    def _span(self, text: str, style: Style) -> str:
        return f'<span class="c{self._class(self.studio.paint(style))}">{escape(text)}</span>'

    def _bars(self, at: int) -> str:
        bars, studio = self.studio.bars(), self.studio
        drawn = "".join(
            f'<rect x="{number}" y="{_BARS * (1 - max(bar.height, 0.06)):.2f}" width=".8" '
            f'height="{_BARS * max(bar.height, 0.06):.2f}" fill="{studio.rgb(studio.look.ramp(bar.nats))}"/>'
            for number, bar in enumerate(bars)
        )
        return (
            f'<svg id="bars" viewBox="0 0 {len(bars)} {_BARS}" preserveAspectRatio="none" role="img" '
            f'aria-label="mean entropy of each step">{drawn}</svg>'
        )

    def _css(self, height: int) -> str:
        studio = self.studio
        paints = [f"#page .c{number}{{{_css_of(paint)}}}" for paint, number in self._classes.items()]
        sheet = (_HERE / "player.css").read_text(encoding="utf-8")
        names = {"ground": studio.ground, "text": studio.text, "muted": studio.muted, "border": studio.border,
                 "accent": studio.accent, "fonts": FONTS, "width": f"{studio.width}ch",
                 "height": f"{1.5 * max(1, height):g}em"}  # fmt: skip
        return f":root{{{';'.join(f'--{name}:{value}' for name, value in names.items())}}}\n{sheet}" + "\n".join(paints)


def _css_of(paint: Paint) -> str:
    ground = f";background:{paint.ground}" if paint.ground else ""
    return f"color:{paint.color}{ground}{css(paint)}"


def _json(film: dict[str, Any]) -> str:
    """JSON that no HTML parser sees markup in."""
    text = json.dumps(film, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
