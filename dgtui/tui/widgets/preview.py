"""The preview: a reply rendered while it is written, with its SVG drawn.

It looks at the reply a few times per second at most, and less often if rendering takes long: the model and the canvas
come first.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.timer import Timer
from textual.widgets import Static

from dgtui import svg
from dgtui.steering.drafts import Refused
from dgtui.tui import keymap
from dgtui.tui.picture import INSTALL, Picture, Undrawable, can_draw, draw
from dgtui.tui.theme import Look
from dgtui.tui.widgets.markdown import markdown_blocks, plain_text
from dgtui.tui.widgets.page import BLANK, MUTED, Block, Page, Paragraph

EVERY: Final = 0.2
"""Least seconds between two looks at the reply."""
REST: Final = 50
"""Rendering takes at most one in this many parts of the time: the screen shares an interpreter with the model."""
DRAWING_REST: Final = 5
"""Drawing takes at most about one in this many parts of the time of a processor."""
MOST_PICTURES: Final = 4
"""Drawings of a reply; further ones are shown as text."""


class Preview(VerticalScroll):
    """Hidden until it is opened. It never takes the focus itself."""

    DEFAULT_CSS = """
    Preview { display: none; height: 2fr; padding: 0 1; border-top: solid $foreground 30%;
        border-title-color: $text-muted; scrollbar-size-vertical: 1; }
    Preview.open { display: block; }
    Preview:focus { border-top: solid $accent; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("preview")

    def __init__(self, look: Look, **kwargs: Any) -> None:
        super().__init__(can_focus=True, **kwargs)
        self.border_title = "preview"
        self.text: Callable[[], str] = str
        "the text of the reply"
        self._look = look
        self._page = Static()
        self._height = 0
        "rows of the page"
        self._timer: Timer | None = None
        self._shown: tuple[str, Size] | None = None
        "the rendered text, and the cells for a drawing"
        self._drawn: dict[int, tuple[object, Picture | str]] = {}
        "of each SVG of the reply: what was drawn last, and the picture or why there is none"
        self._drawing = self._has_picture = self._stale = False
        self._rest_until = self._draw_after = 0.0

    def compose(self) -> ComposeResult:
        yield self._page

    @property
    def is_open(self) -> bool:
        """Whether the preview is shown."""
        return self._timer is not None

    def set_look(self, look: Look) -> None:
        """Draws in another theme."""
        self._look, self._stale = look, True

    def open(self) -> None:
        """Shows the reply and follows its changes. Raises `Refused` if there is none."""
        if not self.text().strip():
            raise Refused("there is no reply to preview yet", hint="send a message first")
        self.add_class("open")
        self._timer = self.set_interval(EVERY, self._look_at)
        self.scroll_home(animate=False)
        self.call_after_refresh(self._look_at)

    def close(self) -> None:
        """Hides the preview."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._shown, self._has_picture = None, False
        self._drawn.clear()
        self.remove_class("open")

    def on_resize(self) -> None:
        """Draws in the new size at once."""
        self._rest_until = self._draw_after = 0.0

    def _look_at(self) -> None:
        cells = self.scrollable_content_region.size
        if not self.is_open or time.monotonic() < self._rest_until or not cells:
            return
        text = self.text()
        if self._stale or self._shown != (text, cells):
            used = time.thread_time()
            self._show(text, cells)
            self.call_after_refresh(self._rest, used)
        self._draw_next(text, (cells.width, cells.height))

    def _rest(self, since: float) -> None:
        self._rest_until = time.monotonic() + REST * (time.thread_time() - since)

    def _show(self, text: str, cells: Size) -> None:
        blocks = [*self._blocks(text)]
        grows = self._shown is not None and self.scroll_offset.y >= self.max_scroll_y
        self._shown, self._stale = (text, cells), False
        page = Page(blocks or [plain_text("there is no text to show yet", style=MUTED)])
        height = page.height(cells.width)
        self._page.update(page, layout=height != self._height)
        self._height = height
        picture = next((number for number, block in enumerate(blocks) if isinstance(block, Picture)), None)
        if picture is not None and not self._has_picture:  # as much of it as there is room for
            end = sum(len(block.rows(cells.width)) for block in blocks[: picture + 1])
            self.call_after_refresh(self.scroll_to, y=max(0, end - cells.height), animate=False)
        elif picture is None and grows:
            self.call_after_refresh(self.scroll_end, animate=False)
        self._has_picture = picture is not None

    def _blocks(self, text: str) -> Iterator[Block]:
        number, apart = 0, False
        for part, is_svg in svg.parts(text):
            if not part.strip():
                continue
            if apart:
                yield Paragraph([BLANK])
            apart = True
            if not is_svg or number == MOST_PICTURES:
                yield from markdown_blocks(part.strip("\n"), ansi=bool(self.app.native_ansi_color))
                continue
            picture = self._drawn.get(number, (None, "drawing …"))[1] if can_draw() else f"to see it drawn: {INSTALL}"
            number += 1
            if isinstance(picture, Picture):
                yield picture
            else:
                yield plain_text(f"[an SVG: {picture}]", style=MUTED)
        if not number:
            self._drawn.clear()  # another reply: its first drawing does not replace an older one

    def _draw_next(self, text: str, cells: tuple[int, int]) -> None:
        """Draws the first SVG that has changed, one at a time."""
        if self._drawing or time.monotonic() < self._draw_after or not can_draw():
            return
        drawings = [part for part, is_svg in svg.parts(text) if is_svg][:MOST_PICTURES]
        for number, source in enumerate(drawings):
            wanted = source, cells, self._look.color
            if self._drawn.get(number, (None,))[0] != wanted:
                self._drawing = True
                self.run_worker(self._draw(number, wanted), group="preview")
                return

    async def _draw(self, number: int, wanted: tuple[str, tuple[int, int], bool]) -> None:
        source, (columns, rows), color = wanted
        began = time.monotonic()
        try:
            picture: Picture | str = await draw(source, columns, max(1, rows - 1), color=color)
        except Undrawable as refused:
            before = self._drawn.get(number, (None, ""))[1]
            picture = before if isinstance(before, Picture) and "</svg" not in source else refused.message
        finally:
            self._drawing = False
            self._draw_after = time.monotonic() + DRAWING_REST * (time.monotonic() - began)
        if self.is_open:
            self._drawn[number] = wanted, picture
            self._stale = True
