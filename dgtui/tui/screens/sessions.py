"""Lists the stored conversations, to search, open, rename and delete them.

The screen is dismissed with the id of the conversation to open, or None.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual import events, getters, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Footer, Input, OptionList
from textual.widgets.option_list import Option

from dgtui.errors import DgtuiError
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.messages import explain
from dgtui.tui.screens.ask import Ask
from dgtui.tui.widgets.page import MUTED
from dgtui.tui.widgets.question import CleanInput, Question

if TYPE_CHECKING:
    from dgtui.session.store import Conversation, Store

LISTED: Final = 500
PATIENCE: Final = 0.15
"seconds without a key before a search starts"


class _List(OptionList, inherit_bindings=False):
    """A list without Textual's hidden binding of Enter: the screen binds it with an id, shown in the footer."""

    BINDINGS: ClassVar[list[Any]] = [
        binding for binding in OptionList.BINDINGS if isinstance(binding, Binding) and binding.key != "enter"
    ]


class Sessions(ModalScreen[str | None]):
    """The list.

    Args:
        store: The stored conversations.
        search: The initial search.
    """

    DEFAULT_CSS = """
    Sessions { align: center middle; }
    Sessions > Vertical {
        width: 94%; max-width: 110; height: 85%; border: round $accent; background: $surface; padding: 0 1;
    }
    Sessions Input { background: $surface; margin: 0 0 1 0; padding: 0; }
    Sessions #title { margin: 1 0 0 0; }
    Sessions OptionList { height: 1fr; border: none; padding: 0; background: $surface;
        scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    Sessions OptionList:focus { border: none; background-tint: $foreground 0%; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("sessions")
    AUTO_FOCUS = "OptionList"

    _options = getters.query_one(OptionList)
    _search = getters.query_one("#search", CleanInput)
    _title = getters.query_one(Question)

    def __init__(self, store: "Store", search: str = "") -> None:
        super().__init__()
        self._store = store
        self._wanted = search
        self._shown: list[tuple[Conversation, str]] = []
        "what is listed, each with an excerpt or an empty string"
        self._pointed: int | None = None
        "the row with the mark"
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "conversations"
            yield CleanInput(self._wanted, placeholder="search all conversations", id="search", compact=True)
            yield _List(id="list")
            yield Question(lambda _: self._options.focus(), id="title")
        yield Footer()

    def on_mount(self) -> None:
        self.call_after_refresh(self._reload)  # rows are cut to the width, which is known only then

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    # -- the list ---------------------------------------------------------------------------------------------------

    @property
    def _marked(self) -> "Conversation | None":
        row = self._options.highlighted
        return self._shown[row][0] if row is not None and row < len(self._shown) else None

    def _reload(self) -> None:
        """Reads the store again. The mark stays on the same conversation."""
        wanted, before, row = self._wanted.strip(), self._marked, self._options.highlighted or 0
        try:
            if wanted:
                hits = {hit.conversation.id: hit for hit in reversed(self._store.search(wanted))}
                shown = list(reversed([(hit.conversation, hit.snippet) for hit in hits.values()]))
            else:
                shown = [(conversation, "") for conversation in self._store.conversations(LISTED)]
        except DgtuiError as error:
            self._say(error)
            return
        self._shown = shown
        self._draw()
        at = next((n for n, (c, _) in enumerate(shown) if before is not None and c.id == before.id), row)
        self._options.highlighted = min(at, len(shown) - 1) if shown else None

    def _draw(self) -> None:
        options, row = self._options, self._options.highlighted
        self._pointed = None
        options.set_options([Option(self._prompt(number)) for number in range(len(self._shown))])
        if not self._shown:
            nothing = "nothing found" if self._wanted.strip() else "no conversations yet"
            options.add_option(Option(Content.styled(f"  {nothing}", MUTED), disabled=True))
        elif row is not None:
            options.highlighted = min(row, len(self._shown) - 1)

    @on(OptionList.OptionHighlighted)
    def _point(self) -> None:
        """Puts a sign before the marked row, for terminals without colours, and avoids dim text in it."""
        before, self._pointed = self._pointed, self._options.highlighted
        for number in {before, self._pointed}:
            if number is not None and number < len(self._shown):
                self._options.replace_option_prompt_at_index(number, self._prompt(number))

    def _prompt(self, number: int) -> Content:
        conversation, excerpt = self._shown[number]
        width = self._options.scrollable_content_region.width
        return _prompt(conversation, excerpt, width, datetime.now(UTC), number == self._pointed)

    def _say(self, error: DgtuiError) -> None:
        self.notify(sanitize(explain(error), newlines=False), severity="error", markup=False)

    # -- search -----------------------------------------------------------------------------------------------------

    @on(Input.Changed, "#search")
    def _typed(self, event: Input.Changed) -> None:
        if event.value == self._wanted:
            return
        self._wanted = event.value
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PATIENCE, self._reload)

    @on(Input.Submitted, "#search")
    def _sought(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._reload()
        self._options.focus()

    def on_key(self, event: events.Key) -> None:
        if event.key == "down" and self.focused is self._search:
            event.stop()
            self._options.focus()

    def action_search(self) -> None:
        """Goes to the search box."""
        self._search.focus()

    # -- what can be done with one ----------------------------------------------------------------------------------

    @on(OptionList.OptionSelected)
    def action_open(self) -> None:
        """Opens the marked conversation."""
        if (marked := self._marked) is not None:
            self.dismiss(marked.id)

    def action_rename(self) -> None:
        """Asks for a title."""
        if (marked := self._marked) is not None:
            rename = partial(self._change, self._store.rename, marked.id)
            self._title.ask("new title; empty: the start of the first message", rename, marked.title)

    def _change(self, change: Callable[..., object], *arguments: str) -> bool:
        """Returns False if it failed."""
        try:
            change(*arguments)
        except DgtuiError as error:
            self._say(error)
            return False
        finally:
            self._reload()
        return True

    def action_delete(self) -> None:
        """Asks, and deletes the marked conversation."""
        marked = self._marked
        if marked is None:
            return

        def answered(answer: str | None) -> None:
            if answer:
                self._change(self._store.delete, marked.id)

        title = truncate(sanitize(marked.title or "untitled", newlines=False), 50)
        question = f"Delete “{title}” and its {_turns(marked.turns)} permanently?"
        self.app.push_screen(Ask(question, [("y", "delete")], "keep"), answered)

    def action_close(self) -> None:
        """Does the first that applies: closes the title line, ends the search, closes the list."""
        if self._title.is_open:
            self._title.action_close()
        elif self._search.value:
            self._search.value = ""
            self._options.focus()
        elif self.focused is self._search:
            self._options.focus()
        else:
            self.dismiss(None)


def _turns(count: int) -> str:
    return f"{count:,} turn{'' if count == 1 else 's'}"


def _prompt(conversation: "Conversation", excerpt: str, width: int, now: datetime, marked: bool) -> Content:
    sign, faint = ("▸ ", "") if marked else ("  ", MUTED)
    title = sanitize(conversation.title or "untitled", newlines=False, tabs="replace")
    facts = f"  {_turns(conversation.turns)} · {_ago(conversation.updated, now)}"
    title = truncate(sign + title, max(8, width - cell_width(facts)))
    line = Content.assemble((title, "bold"), " " * max(0, width - cell_width(title + facts)), (facts, faint))
    model = sanitize(conversation.model or "no model", newlines=False, tabs="replace")
    below = sanitize(excerpt, newlines=False, tabs="replace") if excerpt else f"{conversation.id} · {model}"
    return line + "\n" + Content.styled(truncate(f"    {below}", width), "" if excerpt else faint)


def _ago(then: datetime, now: datetime) -> str:
    """How long ago, in words."""
    seconds = (now - then).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    local, today = then.astimezone(), now.astimezone()
    days = (today.date() - local.date()).days
    if days == 0:
        return f"today {local:%H:%M}"
    if days == 1:
        return f"yesterday {local:%H:%M}"
    return f"{local:%d %b}" if local.year == today.year else f"{local:%Y-%m-%d}"
