"""Compares two texts line by line."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import Match, SequenceMatcher
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dgtui.text import sanitize

MOST_LINES: Final = 2000
"""Most lines to show; a last line says that there are more."""
AT_ONCE: Final = 1000
"""Texts with up to this many lines are compared without a thread."""
MOST_SECONDS: Final = 2.0
"""Most seconds that a comparison may take."""
MOST_PAIRS: Final = 5_000_000
"""Most pairs of equal lines that are compared: about a second's work."""


class Differences(ModalScreen[None]):
    """Shows the lines that differ."""

    DEFAULT_CSS = """
    Differences { align: center middle; }
    Differences > VerticalScroll { width: 94%; height: 90%; border: round $accent; background: $surface;
        padding: 0 1; scrollbar-size-vertical: 1; }
    Differences Static { height: auto; width: 100%; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape,q,enter", "dismiss(None)", "close", show=False)]

    def __init__(self, old: str, new: str, title: str) -> None:
        super().__init__()
        self._old, self._new, self._title = old, new, title

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = sanitize(self._title, newlines=False, tabs="replace").replace("[", "\\[")
            scroll.border_subtitle = "esc closes"
            yield Static("comparing …" if self._is_long else _shown(self._old, self._new))

    def on_mount(self) -> None:
        if self._is_long:
            self.run_worker(self._compare())

    @property
    def _is_long(self) -> bool:
        return self._old.count("\n") + self._new.count("\n") > AT_ONCE

    async def _compare(self) -> None:
        """Compares in a thread, so the screen can be closed meanwhile."""
        shown = await asyncio.to_thread(_shown, self._old, self._new)
        self.query_one(Static).update(shown)

    def on_key(self, event: events.Key) -> None:
        scroll = self.query_one(VerticalScroll)
        moves = {"down": scroll.scroll_down, "up": scroll.scroll_up}
        if move := moves.get(event.key):
            event.stop()
            move(animate=False)


_STYLES: Final = {"-": "$text-error", "+": "$text-success"}


class _TooLong(Exception):
    """The comparison takes too long."""


class _Matcher(SequenceMatcher[str]):
    """Raises `_TooLong` after `MOST_SECONDS`."""

    def __init__(self, old: Sequence[str], new: Sequence[str]) -> None:
        self._until = time.monotonic() + MOST_SECONDS
        super().__init__(None, old, new)
        places = Counter(new)
        if sum(places[line] for line in old) > MOST_PAIRS:
            raise _TooLong

    def find_longest_match(self, *args: Any, **kwargs: Any) -> Match:
        if time.monotonic() > self._until:
            raise _TooLong
        return super().find_longest_match(*args, **kwargs)


def _shown(old: str, new: str) -> Content:
    """The text that shows a comparison."""
    try:
        lines = [*itertools.islice(_lines(old.split("\n"), new.split("\n")), MOST_LINES + 1)]
    except _TooLong:
        return Content("too many differences to show")
    more = [Content("… and more")] if len(lines) > MOST_LINES else []
    return Content("\n").join([*lines[:MOST_LINES], *more]) if lines else Content("the texts are equal")


def _lines(old: list[str], new: list[str]) -> Iterator[Content]:
    """The lines that differ, each change with a line before and after it, as in a unified diff."""
    if old == new:
        return
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    start = max(0, same - 1)  # equal lines at both ends are left out of the comparison, except one
    last = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(reversed(old[same:]), reversed(new[same:]), strict=False)
    )
    cut = max(0, sum(1 for _ in last) - 1)
    old, new = old[start : len(old) - cut], new[start : len(new) - cut]
    for group in _Matcher(old, new).get_grouped_opcodes(1):
        (_, i, _, k, _), (_, _, j, _, m) = group[0], group[-1]
        yield Content.styled(f"@@ -{start + i + 1},{j - i} +{start + k + 1},{m - k} @@", "$text-accent")
        for kind, i, j, k, m in group:
            if kind == "equal":
                yield from (_line(" ", line) for line in old[i:j])
            else:
                yield from (_line("-", line) for line in old[i:j])
                yield from (_line("+", line) for line in new[k:m])


def _line(sign: str, line: str) -> Content:
    shown = sanitize(sign + line, newlines=False, tabs="expand")
    return Content.styled(shown, _STYLES[sign]) if sign in _STYLES else Content(shown)
