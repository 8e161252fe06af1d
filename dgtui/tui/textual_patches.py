"""All uses of Textual's private parts without a public counterpart in the pinned version, with the reason for each.

Check this file first when updating Textual.
"""

import fcntl
import os
import re
import selectors
import signal
import termios
import threading
import time
from collections.abc import Iterable
from queue import Full
from types import SimpleNamespace
from typing import Any, Final

from textual import message_pump
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.dom import DOMNode
from textual.drivers._writer_thread import WriterThread
from textual.message import Message
from textual.timer import Timer

ESCAPE_WAIT: Final = 0.03
"""Seconds without input after which a lone Esc counts: slightly more than ESCDELAY."""
WRITE_WAIT: Final = 0.2
"""Seconds that output waits for a blocked terminal once the program is ending."""
ending: Final = threading.Event()
"""Call this before the program ends: output that the terminal does not accept is then dropped."""
_PASTE_BEGIN: Final = "\x1b[200~"
_PASTE_END: Final = "\x1b[201~"
_TYPED: Final = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")
"""Characters that can come from keys or from a paste: text, tabs and line ends."""
_LINES: Final = re.compile(r"[\r\n][^\r\n]")
_LINE: Final = re.compile(r"[^\r\n]{2}[\r\n]+\Z")
BURST: Final = 0.03
"""Most seconds between two reads of one paste."""
_MOST_TYPED: Final = 1000
"""This many characters that arrive at once count as a paste."""


def patch_driver() -> None:
    """Makes the terminal driver recognise Esc quickly and read pastes safely. Call it before the app runs."""
    from textual.drivers import linux_driver

    driver: Any = linux_driver
    driver.selectors = SimpleNamespace(SelectSelector=_EscapeSelector, EVENT_READ=selectors.EVENT_READ)
    driver.XTermParser = PasteSafeParser
    driver.WriterThread = _LossyWriter


def patch_timers() -> None:
    """Makes timers that fire once fire even if they start late."""
    pump: Any = message_pump
    pump.Timer = _SureTimer


class _SureTimer(Timer):
    """Textual skips ticks of a timer that are over when it starts. A timer that fires once has only one, and a short
    delay is over whenever another thread or program runs at that moment."""

    def _start(self) -> None:
        self._skip = self._skip and self._repeat != 0
        super()._start()


class _EscapeSelector(selectors.SelectSelector):
    """Waits for input for the given time, but only briefly right after input. Ends the program if the terminal is gone.

    On terminals without the kitty keyboard protocol, a lone Esc counts once no other byte follows. Textual checks for
    that only every 0.1 s, which is long for a key that stops a run, and it has no setting for it.

    A closed terminal is readable but has no data. Textual would read it in an endless loop.
    """

    _short_waits = 0
    _gone = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._gone:
            time.sleep(timeout or 0)
            return []
        events = super().select(ESCAPE_WAIT if self._short_waits and timeout else timeout)
        if any(not _has_input(key.fd) for key, _ in events):
            self._gone = True
            signal.raise_signal(signal.SIGTERM)
            return []
        self._short_waits = 2 if events else max(0, self._short_waits - 1)
        return events


def _has_input(descriptor: int) -> bool:
    """Whether a readable descriptor has bytes to read, and is not at its end."""
    try:
        return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    except OSError:
        return False


class _LossyWriter(WriterThread):
    """Writes to the terminal, and drops what cannot be written. Textual's own writer would block the whole program."""

    def write(self, text: str) -> None:
        while True:
            try:
                self._queue.put(text, timeout=WRITE_WAIT)
            except Full:
                if not ending.is_set():
                    continue
            return

    def run(self) -> None:
        while True:
            try:
                super().run()
            except OSError:  # the terminal was closed: the queue must still be emptied
                ending.set()
            else:
                return

    def stop(self) -> None:
        self.write(None)  # type: ignore[arg-type]  # ends the thread
        self.join(WRITE_WAIT if ending.is_set() else None)


class PasteSafeParser(XTermParser):
    """The parser of terminal input; escape bytes in a paste become visible symbols.

    Textual's parser treats an escape byte in a paste, and everything after it, as keys. A line break would then send a
    message that the user has not read. The same happens in a paste without brackets, which comes from terminals without
    bracketed paste and from programs that type. Its speed gives such a paste away: a line end arrives together with
    text.
    """

    _pasting = False
    _kept = ""
    "bytes that may be the start of the end of a paste"
    _burst_until = 0.0
    "the time until which more text belongs to a paste without brackets"

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._brackets = "TMUX" in os.environ
        "whether the terminal marks its pastes, so a single line with Enter was typed"

    def feed(self, data: str) -> Iterable[Message]:
        if not data:  # the end of all input
            return super().feed(data)
        self._brackets = self._brackets or _PASTE_BEGIN in data or "$y" in data  # a reply about a mode
        if not self._pasting and self._is_paste(data):
            self._burst_until = time.monotonic() + BURST
            data = _PASTE_BEGIN + data + _PASTE_END
        safe = self._safe(data)
        return super().feed(safe) if safe else ()

    def _is_paste(self, data: str) -> bool:
        """Whether text that arrived at once was pasted without brackets."""
        if not _TYPED.fullmatch(data):
            return False
        if time.monotonic() < self._burst_until or len(data) >= _MOST_TYPED or _LINES.search(data):
            return True
        return not self._brackets and _LINE.search(data) is not None

    def _safe(self, data: str) -> str:
        data, self._kept = self._kept + data, ""
        parts: list[str] = []
        while data:
            mark = _PASTE_END if self._pasting else _PASTE_BEGIN
            part, found, data = data.partition(mark)
            if self._pasting:
                if not found:
                    lengths = range(len(_PASTE_END) - 1, 0, -1)
                    self._kept = next((_PASTE_END[:n] for n in lengths if part.endswith(_PASTE_END[:n])), "")
                    part = part.removesuffix(self._kept)
                part = part.replace("\x1b", "\u241b")
            parts += part, found
            self._pasting ^= bool(found)
        return "".join(parts)


def forget_watchers(node: DOMNode, attribute: str) -> None:
    """Forgets what watches an attribute. Textual keeps watchers that were removed until the attribute changes."""
    getattr(node, "__watchers", {}).pop(attribute, None)


def bound_by(nodes: Iterable[DOMNode]) -> dict[str, DOMNode]:
    """The first node that binds each id. Textual only gives the bindings of the focused part."""
    found: dict[str, DOMNode] = {}
    for node in nodes:
        for _, binding in node._bindings:
            if binding.id:
                found.setdefault(binding.id, node)
    return found


def make_room_for_notice(app: App[Any], message: str, room: int) -> None:
    """Removes notices with the same message, and the oldest if there are more than `room` with the new one.

    Textual can only remove all notices. Those with their own timeout stay.
    """
    passing = [notice for notice in app._notifications if notice.timeout == app.NOTIFICATION_TIMEOUT]
    others = [notice for notice in passing if notice.message != message]
    kept = others[max(0, len(others) + 1 - room) :]
    for notice in passing:
        if notice not in kept:
            app._unnotify(notice)
