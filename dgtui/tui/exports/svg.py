"""Steps of a recorded run as one SVG picture: one below the other, or animated. It loads nothing and has no scripts.

Every piece of text has its own position and length, so the reader's font cannot shift it.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui.exports.exporter import ASKED, LAST_SECONDS, Bar, Exporter, Paint, Snapshot, step_seconds
from dgtui.tui.widgets.brush import Ink

FONTS: Final = '"JetBrains Mono", "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace'
"""Fonts that the reader's machine may have."""

_CELL, _LINE, _SIZE = 8.4, 21, 14
_SMALL = 12
_EDGE = 24
_BARS, _WIDEST_BAR = 26, 20.0
_GAP = 30  # between snapshots


def picture(exporter: Exporter, steps: Sequence[int]) -> str:
    """The steps (counted from 0) below each other, as an SVG document."""
    return _Sheet(exporter).draw([exporter.snapshot(at) for at in steps])


def animation(exporter: Exporter, steps: Sequence[int]) -> str:
    """The steps (counted from 0) one after the other in a loop, as an SVG document.

    The last step stays visible in viewers without animation and for readers who prefer reduced motion.
    """
    return _Sheet(exporter).animate([exporter.snapshot(at) for at in steps])


class _Sheet:
    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self._classes: dict[Paint, str] = {}
        self._y = float(_EDGE)
        self._right = _EDGE + exporter.width * _CELL

    def draw(self, snapshots: Sequence[Snapshot]) -> str:
        body = [*self._prompt()]
        for number, snapshot in enumerate(snapshots):
            body += [*(self._rule() if number else ()), *self._snapshot(snapshot)]
        return self._document(_title(self.exporter, snapshots), body, self._y)

    def animate(self, snapshots: Sequence[Snapshot]) -> str:
        body = [*self._prompt()]
        top, bottom = self._y, self._y
        for number, snapshot in enumerate(snapshots):
            self._y = top
            body += [f'<g class="step s{number}">', *self._snapshot(snapshot), "</g>"]
            bottom = max(bottom, self._y)
        self._y = bottom + 6
        body += self._row(self.exporter.legend)
        bottom = self._y + _LINE
        return self._document(_title(self.exporter, snapshots[-1:]), body, bottom, _turns(len(snapshots)))

    def _document(self, title: str, body: Sequence[str], bottom: float, extra_css: str = "") -> str:
        width, height = self._right + _EDGE, bottom + _EDGE - 8
        frame = (
            f'<rect x=".5" y=".5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="10" '
            f'fill="{self.exporter.ground}" stroke="{self.exporter.border}"/>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
                f'width="{_n(width)}" height="{_n(height)}" role="img" aria-labelledby="title">',
                f'<title id="title">{escape(title)}</title>',
                f"<style>{self._css()}{extra_css}</style>",
                *[frame, *body],
                "</svg>\n",
            ]
        )

    def _prompt(self) -> Iterator[str]:
        if self.exporter.prompt:
            self._y += _SIZE
            yield self._text(_EDGE, ASKED + self.exporter.prompt, "ask")
            self._y += _LINE - _SIZE + 12

    def _rule(self) -> Iterator[str]:
        self._y += _GAP / 2
        yield f'<path d="M{_EDGE} {_n(self._y)}H{_n(self._right)}" stroke="{self.exporter.border}"/>'
        self._y += _GAP / 2

    def _snapshot(self, snapshot: Snapshot) -> Iterator[str]:
        self._y += _SMALL
        recorded, room = self.exporter.recorded, int(self.exporter.width * _SIZE / _SMALL)
        yield self._text(_EDGE, truncate(recorded.status(snapshot.at), room), "small")
        self._y += 10
        for row in snapshot.rows or ((),):
            yield from self._row(row)
            self._y += _LINE
        self._y += 8
        yield from bars(self.exporter, snapshot.at, _EDGE, self._y, self.exporter.width * _CELL, _BARS)
        self._y += _BARS + 8 + _SMALL
        yield self._text(_EDGE, recorded.meters(snapshot.at, room), "small")
        self._y += 6

    def _row(self, row: Ink) -> Iterator[str]:
        column = 0
        for text, style in row:
            cells, paint = cell_width(text), self.exporter.paint(style)
            x = _EDGE + column * _CELL
            if paint.ground:
                yield (
                    f'<rect x="{_n(x)}" y="{_n(self._y + 1)}" width="{_n(cells * _CELL)}" height="{_LINE - 2}" '
                    f'fill="{paint.ground}"/>'
                )
            ink = text.strip(" ")
            if ink:
                before = len(text) - len(text.lstrip(" "))
                name = self._classes.setdefault(paint, f"c{len(self._classes)}")
                y, width = self._y + 15, cell_width(ink) * _CELL
                yield (
                    f'<text class="{name}" x="{_n(x + before * _CELL)}" y="{_n(y)}" textLength="{_n(width)}" '
                    f'lengthAdjust="spacingAndGlyphs" xml:space="preserve">{escape(ink, quote=False)}</text>'
                )
            column += cells

    def _text(self, x: float, text: str, name: str) -> str:
        return f'<text class="{name}" x="{_n(x)}" y="{_n(self._y)}">{escape(text, quote=False)}</text>'

    def _css(self) -> str:
        exporter = self.exporter
        return "\n".join(
            [
                f"text{{font-family:{FONTS};font-size:{_SIZE}px;white-space:pre}}",
                f".ask{{fill:{exporter.accent}}}",
                f".small{{font-size:{_SMALL}px;fill:{exporter.muted}}}",
                *(f".{name}{{fill:{paint.color}{css(paint)}}}" for paint, name in self._classes.items()),
            ]
        )


def _turns(count: int) -> str:
    """CSS that shows `count` groups in turn; only the last is visible without animation."""
    each = step_seconds(count)
    whole = (count - 1) * each + LAST_SECONDS
    lines = ["", f".step{{visibility:hidden;animation:{_n(whole)}s step-end infinite}}"]
    for number in range(count):
        start = 100 * number * each / whole
        end = 100 * (number + 1) * each / whole if number + 1 < count else 100.0
        hidden_after = f"{_n(end)}%{{visibility:hidden}}" if end < 100 else ""
        hidden_before = "0%{visibility:hidden}" if number else ""
        lines.append(f".s{number}{{animation-name:k{number}}}")
        lines.append(f"@keyframes k{number}{{{hidden_before}{_n(start)}%{{visibility:visible}}{hidden_after}}}")
    lines.append(f".s{count - 1}{{visibility:visible}}")
    lines.append("@media(prefers-reduced-motion:reduce){.step{animation:none}}")
    return "\n".join(lines)


def css(paint: Paint) -> str:
    """The attributes of a paint as CSS without the colours, each after a semicolon."""
    lines = " ".join(["underline"] * paint.underline + ["line-through"] * paint.strike)
    return (
        (";font-weight:bold" if paint.bold else "")
        + (";font-style:italic" if paint.italic else "")
        + (f";text-decoration:{lines}" if lines else "")
    )


def bars(exporter: Exporter, at: int, x: float, y: float, width: float, height: float) -> Iterator[str]:
    """The timeline as rectangles: the current step has a mark below it, later steps are pale."""
    drawn = exporter.bars()
    step = min(width / len(drawn), _WIDEST_BAR)
    here = playhead(drawn, at)
    for number, bar in enumerate(drawn):
        tall = max(1.5, bar.height * height)
        pale = ' opacity=".3"' if number > here else ""
        yield (
            f'<rect x="{_n(x + number * step)}" y="{_n(y + height - tall)}" width="{_n(max(step - 1.5, step * 0.7))}" '
            f'height="{_n(tall)}" fill="{exporter.rgb(exporter.look.ramp(bar.nats))}"{pale}/>'
        )
    yield (
        f'<rect x="{_n(x + here * step)}" y="{_n(y + height + 2)}" width="{_n(max(step - 1.5, step * 0.7))}" '
        f'height="2" fill="{exporter.accent}"/>'
    )


def playhead(drawn: Sequence[Bar], at: int) -> int:
    """The number of the bar that holds a step."""
    return next(number for number, bar in enumerate(drawn) if at <= bar.last)


def _title(exporter: Exporter, snapshots: Sequence[Snapshot]) -> str:
    steps = ", ".join(str(snapshot.at + 1) for snapshot in snapshots)
    said = truncate(" ".join(sanitize(exporter.recorded.text(snapshots[-1].at), tabs="replace").split()), 400)
    return f"{exporter.model}, denoising step {steps} of {len(exporter.recorded)}: {said}"


def _n(value: float) -> str:
    """A number with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
