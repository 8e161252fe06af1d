"""A turn of the conversation in one widget: a reply as Markdown or as written, with thoughts and long messages folded.

Any text is safe. A turn is laid out once for each width.
"""

from dataclasses import dataclass
from typing import Literal

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.selection import Selection
from textual.widget import Widget

from dgtui import sudoku
from dgtui.session.records import Turn
from dgtui.text import byte_size
from dgtui.tui.widgets.attached import file_name
from dgtui.tui.widgets.markdown import markdown_blocks, plain_text
from dgtui.tui.widgets.page import BLANK, MUTED, Block, Page, Paragraph, copied

MOST_LINES = 40
MOST_CHARACTERS = 4_000
"""Longer user messages are folded."""
_HANG = Content(" " * 7)
_NAMES = {"user": ("You", "bold $text-accent"), "model": ("Model", "bold $text-primary"), "system": ("System", "bold")}


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn, or a notice of the program between turns. Any text."""

    role: Literal["user", "model", "system", "notice"]
    text: str
    thought: str = ""
    note: str = ""
    """One line below the text, about the run that produced it."""
    finished: bool = True
    on_canvas: bool = False
    """The text is the part above the canvas, which shows the rest of the reply."""
    chips: tuple[str, ...] = ()
    """Names and sizes of the attached text files, without control characters."""

    @property
    def is_shown(self) -> bool:
        """Whether it has text above the canvas."""
        return not self.on_canvas or bool(self.text.strip() or self.thought.strip())


def turn_entry(turn: Turn, before: Turn | None = None) -> Entry:
    """A stored turn, with a line about its run or its images. `before` is the turn that it answers."""
    notes = [f"image: {file_name(image.path)}" for image in turn.images]
    if turn.role == "model":
        if turn.steps:
            notes.append(f"{turn.steps} step{'s' if turn.steps > 1 else ''}")
        if turn.seconds and turn.token_ids:
            notes.append(f"{len(turn.token_ids) / turn.seconds:.0f} tok/s wall")
        if turn.stop_reason:
            notes.append({"cancelled": "stopped", "length": "cut: no room left"}.get(turn.stop_reason, "end of reply"))
        elif not turn.finished:
            notes.append("unfinished")
        if turn.seed is not None:
            notes.append(f"seed {turn.seed}")
        if before is not None and turn.finished and (found := sudoku.checked(before.content, turn.text)):
            notes.append(found)
    chips = tuple(f"{file_name(file.path)} {byte_size(file.size)}" for file in turn.files)
    note = " · ".join(notes)
    return Entry(turn.role, turn.text, thought=turn.thought, note=note, finished=turn.finished, chips=chips)


class EntryView(Widget):
    """Shows a turn."""

    DEFAULT_CSS = """
    EntryView { height: auto; max-width: 111; margin: 0 0 1 0; padding: 0 2 0 1; border-left: blank; }
    EntryView.-on-canvas { margin: 0; }
    """

    entry = reactive(Entry("notice", ""), layout=True, init=False)
    """The turn that is shown."""
    is_raw = reactive(False, layout=True, init=False)
    """Show the text as written, not as Markdown."""
    is_unfolded = reactive(False, layout=True, init=False)
    """Show the thought, or the rest of a long message."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.set_reactive(EntryView.entry, entry)
        self._page: tuple[object, Page] | None = None
        self._fold_at: int | None = None
        self.watch_entry()

    def watch_entry(self) -> None:
        """Makes room for the canvas that replaces the reply."""
        self.set_class(self.entry.on_canvas, "-on-canvas")
        self.display = self.entry.is_shown

    @property
    def foldable(self) -> bool:
        """Whether the turn has a part that can be folded."""
        return bool(self.entry.thought.strip()) or self._is_long

    def render(self) -> Page:
        ansi = bool(self.app.native_ansi_color)
        state = self.entry, self.is_raw, self.is_unfolded, ansi
        if self._page is None or self._page[0] != state:
            self._page = state, Page(self._blocks(ansi))
        return self._page[1]

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return copied(self.render(), selection), "\n"

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset and self.foldable and self.render().block_at(offset.y, self.content_size.width) == self._fold_at:
            self.is_unfolded = not self.is_unfolded

    @property
    def _is_long(self) -> bool:
        entry = self.entry
        return entry.role == "user" and (len(entry.text) > MOST_CHARACTERS or entry.text.count("\n") >= MOST_LINES)

    def _blocks(self, ansi: bool) -> list[Block]:
        entry = self.entry
        if entry.role == "notice":
            return [plain_text(entry.text, Content.styled("     — ", MUTED), _HANG, MUTED)]
        name, style = _NAMES[entry.role]
        blocks: list[Block] = []

        def lead() -> Content:
            return _HANG if blocks else Content.styled(name.ljust(len(_HANG)), style)

        if entry.thought.strip():
            self._fold_at = 0
            words = len(entry.thought.split())
            blocks.append(self._fold(f"thought · {words:,} word{'s' if words != 1 else ''}", lead()))
            if self.is_unfolded:
                bar = _HANG + Content.styled("│ ", MUTED)
                blocks += [plain_text(entry.thought.strip(), bar, bar, MUTED), Paragraph([BLANK], _HANG)]
        if entry.role == "model" and not self.is_raw:
            blocks += markdown_blocks(entry.text, lead(), _HANG, ansi=ansi) if entry.text.strip() else []
        else:
            text = entry.text if self.is_unfolded or not self._is_long else _beginning(entry.text)
            blocks.append(plain_text(text, lead(), _HANG))
            if self._is_long:
                self._fold_at = len(blocks)
                left = len(entry.text.splitlines()) - len(text.splitlines())
                rest = f"{left:,} more lines" if left > 0 else f"{len(entry.text) - len(text):,} more characters"
                blocks.append(self._fold("show less" if self.is_unfolded else rest, _HANG))
        if not entry.finished and entry.role == "model" and not entry.on_canvas:
            blocks.append(Paragraph([Content.styled("…", MUTED)], lead()))
        if entry.chips:
            chips = [Content.styled(f" {chip} ", "$text-accent on $panel") for chip in entry.chips]
            blocks.append(Paragraph([Content(" ").join(chips)], lead(), _HANG))
        if entry.note:
            blocks.append(plain_text(entry.note.replace("\n", " "), lead(), _HANG, MUTED))
        return blocks or [Paragraph([BLANK], lead())]

    def _fold(self, text: str, lead: Content) -> Paragraph:
        return Paragraph([Content.styled(f"{'▾' if self.is_unfolded else '▸'} {text}", MUTED)], lead, _HANG)


def _beginning(text: str) -> str:
    return "\n".join(text[: MOST_CHARACTERS // 2].split("\n")[: MOST_LINES // 2])
