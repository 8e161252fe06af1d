"""Proposals drawn as overlays in the text: while they are denoised, and word by word during the review.

The buffer does not change until a change is accepted. `ReviewBar` has the focus meanwhile: it handles the keys and
shows the state of the run and of the review.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from rich.style import Style
from textual import events
from textual.content import Content
from textual.widgets import Static

from dgtui.diffusion.events import Flag
from dgtui.layout import shown_tokens
from dgtui.steering.proposals import InfillSearch, Review
from dgtui.text import sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.colour import readable
from dgtui.tui.frames import View, view_at
from dgtui.tui.theme import Look
from dgtui.tui.widgets.brush import Brush
from dgtui.tui.widgets.editor import Overlay

Runs = list[tuple[str, Style]]

_TAB: Final = " " * 4


class ReviewBar(Static, can_focus=True):
    """Two lines below the text, during a run and its review."""

    DEFAULT_CSS = """
    ReviewBar { height: 2; padding: 0 1; background: $panel; color: $foreground; display: none; }
    ReviewBar.open { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("review")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(markup=False, **kwargs)

    async def on_key(self, event: events.Key) -> None:
        """Runs a command of the bar."""
        if await keymap.run_own(self, event.key):
            event.stop()
            event.prevent_default()

    def say(self, text: str) -> None:
        """Shows two lines, each cut at the edge."""
        lines = [
            truncate(line, max(1, self.content_size.width or 78)) for line in sanitize(text, tabs="expand").split("\n")
        ]
        self.update(Content("\n".join(lines)), layout=False)


def draft(work: InfillSearch, pieces_of: Callable[[Sequence[int]], Sequence[bytes]], brush: Brush) -> list[Runs]:
    """The current draft of each span, from the best candidate."""
    run, search = work.run, work.plan.search
    if run is None:
        return []
    log = run.log
    candidate = search.best(log)
    frame, view = view_at(log, 0, None, candidate, pieces_of, frozenset())
    if not view.pieces:
        return []
    drawn = []
    stops = list(work.plan.stop_ids)
    for gap, (lead, tail) in zip(search.gaps(candidate), work.plan.lent, strict=False):
        end = gap.stop
        if frame is not None:
            ends = np.flatnonzero(np.isin(frame.ids[gap.start : gap.stop], stops) & view.settled[gap.start : gap.stop])
            end = gap.start + int(ends[0]) if len(ends) else end
        places = slice(gap.start, end)
        part = View(view.pieces[places], view.entropy[places], view.flags[places], view.settled[places], 0)
        drawn.append(_runs(_preceded(pieces_of(work.plan.written), part), lead, tail, brush))
    return drawn


def _preceded(written: Sequence[bytes], view: View) -> View:
    """The view, preceded by the text of earlier canvases."""
    if not written:
        return view
    count = len(written)
    return View(
        (*written, *view.pieces),
        np.concatenate([np.zeros(count, np.float32), view.entropy]),
        np.concatenate([np.zeros(count, np.uint8), view.flags]),
        np.concatenate([np.ones(count, np.bool_), view.settled]),
        0,
    )


def _runs(view: View, lead: str, tail: str, brush: Brush) -> Runs:
    texts = shown_tokens(view.pieces, view.settled.tolist())
    styles = brush.styles(view.entropy, view.flags & ~np.uint8(Flag.PINNED), view.settled)
    runs = [(text, style) for text, style in zip(texts, styles, strict=True) if text]
    if lead and runs and runs[0][0].startswith(lead):
        runs[0] = runs[0][0][len(lead) :], runs[0][1]
    return [*runs, (tail, brush.base)] if tail else runs


def changes(review: Review, look: Look) -> list[Overlay]:
    """The open changes, as old text followed by new text; the current change has its own ground."""
    old, new = _styles(look)
    overlays = []
    for change in review.open:
        current = look.selection if change is review.current else Style()
        runs = [(_shown(change.old), old + current), (_shown(change.new), new + current)]
        overlays.append(Overlay(change.anchor.start, change.anchor.end, [run for run in runs if run[0]]))
    return overlays


def _styles(look: Look) -> tuple[Style, Style]:
    """The styles of old and new text, which differ even without colours."""
    old, new = Style(strike=True), Style(bold=True, underline=True)
    if not look.color:
        return old, new
    colors, grounds = look.theme.palette, [look.theme.ground, look.theme.selection]
    red, green = (colors[name] if look.theme.ansi else readable(colors[name], grounds) for name in ("error", "success"))
    return old + Style(color=red), new + Style(color=green)


def _shown(text: str) -> str:
    text = text if text.strip() else text.replace("\n", "⏎\n")  # or it would be invisible
    return sanitize(text.replace("\t", _TAB))


def progress(work: InfillSearch, seconds: float) -> str:
    """The state of an infill search, in two lines."""
    run, search = work.run, work.plan.search
    if run is None:
        return "starting"
    candidate = search.best(run.log)
    frames = run.log.frames(candidate=candidate)
    state = "stopping" if work.stopping else f"trying {search.lengths} lengths" if search.probing else "writing"
    parts = [_counted(sum(map(len, search.gaps(candidate))), "token")]
    if frames:
        parts += [f"step {frames[-1].step}/{frames[-1].max_steps}", f"mean entropy {frames[-1].mean_entropy:.2f}"]
    else:
        parts.append("reading the text")
    return f"{state} · seed {work.plan.seed}\n{' · '.join([*parts, f'{seconds:.1f} s'])}"


def measures(review: Review) -> str:
    """The current change and the figures of the proposal, in two lines."""
    proposal = review.passage.proposal
    assert proposal is not None
    if not proposal.tokens:
        state = "best left empty"
    elif not review.changes:
        state = "no change: the proposal equals the text"
    else:
        state = f"change {review.at + 1} of {len(review.changes)}" if review.current else "no open changes"
    state += f" · seed {proposal.seed}" + (" · stopped before it converged" if proposal.stopped else "")
    parts = [_counted(proposal.tokens, "token")]
    if proposal.unlikely:
        parts.insert(0, "unlikely: the model has not seen such text")
    elif math.isfinite(proposal.nats):
        parts.append(f"{-proposal.nats:.1f} nats/token")
    if proposal.lengths:
        parts.append(f"{_counted(proposal.lengths, 'length')} tried")
    return f"{state}\n{' · '.join([*parts, _counted(proposal.steps, 'step'), f'{proposal.seconds:.1f} s'])}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
