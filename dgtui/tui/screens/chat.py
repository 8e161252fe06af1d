"""The chat screen: a conversation above, the canvas of the running reply, a prompt below.

`ConversationController` holds the conversation, the canvas panel holds the draft of the reply, and `ChatCommands` runs
the slash commands. The screen connects them and passes keys and messages on.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import SystemCommand
from textual.containers import Container
from textual.css.query import QueryType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets.text_area import Selection

from dgtui.backend import Backend
from dgtui.config import Settings
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.app import BaseApp
from dgtui.tui.commands import SLASHES, SWITCH, parse
from dgtui.tui.conversation_controller import ConversationController
from dgtui.tui.messages import explain
from dgtui.tui.opening import Opening
from dgtui.tui.screens.base import BaseScreen, seed_source
from dgtui.tui.screens.chat_commands import ChatCommands
from dgtui.tui.theme import Look
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.attached import Attached
from dgtui.tui.widgets.canvas_panel import CanvasPanel
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.preview import Preview
from dgtui.tui.widgets.prompt import Prompt
from dgtui.tui.widgets.start_card import TRIES, StartCard, hold
from dgtui.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from dgtui.session.store import Store

QUIT_SECONDS = 2.0
"seconds within which a second Ctrl+C quits"


class ChatScreen(BaseScreen):
    """Shows the conversation and the canvas, and takes messages."""

    DEFAULT_CSS = """
    ChatScreen #talk { height: 1fr; }
    ChatScreen Transcript { height: 1fr; }
    ChatScreen.-wide #talk { layout: horizontal; }
    ChatScreen.-wide #talk > * { width: 1fr; height: 1fr; }
    ChatScreen StartCard { display: none; }
    ChatScreen.empty #talk { display: none; }
    ChatScreen.empty StartCard { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        *keymap.bindings("chat"), *keymap.bindings("talk"), *keymap.bindings("start")
    ]  # fmt: skip
    CONTEXTS = (
        "app",
        "chat",
        "talk",
        "start",
        "prompt",
        "transcript",
        "steering",
        "canvas",
        "typing",
        "preview",
        "alternatives",
        "sessions",
    )
    AUTO_FOCUS = "Prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  # declared like this in Textual

    def __init__(self, backend: Backend, store: "Store", settings: Settings, look: Look, opening: Opening) -> None:
        super().__init__(settings, look)
        self.backend, self._opening = backend, opening
        seeds = seed_source(opening.seed)
        self.panel = CanvasPanel(backend, settings.screen, look, seeds, opening.record, id="panel")
        self.transcript = Transcript(canvas=self.panel, id="transcript")
        self.preview = Preview(look, id="preview")
        self.start_card = StartCard(look, self.app.keys, id="start")
        self.loader = Loading(id="loading")
        self.attached = Attached(backend, opening.images, id="attached")
        self.prompt = Prompt(arguments=self._argument_choices, id="prompt")
        talk = Container(self.transcript, self.preview, id="talk")
        self.parts = (self.start_card, talk, self.loader, self.attached, self.prompt)
        self.conversation = ConversationController(
            backend, store, opening, seeds, self.draw_top,
            panel=self.panel, transcript=self.transcript, prompt=self.prompt, attached=self.attached,
        )  # fmt: skip
        self.preview.text = self.conversation.on_canvas.previewed
        self._commands = ChatCommands(
            self, self.conversation, self.panel, self.attached, self.load, self._toggle_preview
        )
        self._command = ""
        "the command that requested the model that is being loaded"
        self._try = ""
        "the prompt of the start card that will be sent as soon as the model is loaded"
        self._interrupted = float("-inf")

    def on_mount(self) -> None:
        if stored := self._opening.conversation:
            self.guarded(lambda: self.conversation.open(stored))
        self.draw_top()
        self.call_after_refresh(self.load, self._opening.model)

    def set_look(self, look: Look) -> None:
        """Sets the style of tokens."""
        self.panel.set_look(look)
        self.start_card.set_look(look)
        self.preview.set_look(look)

    def draw_top(self) -> None:
        """Also shows or hides the start card."""
        self.set_class(not self.transcript.entries and not self.panel.is_open, "empty")
        super().draw_top()

    def keep(self) -> None:
        """Stores the current draft and its recording."""
        self.conversation.keep_draft()
        if self.panel.steering.running:
            self.panel.keep_recording()

    def top_line(self) -> str:
        facts = self.backend.facts
        left = " dgtui"
        if facts:
            name = truncate(sanitize(facts.name, newlines=False, tabs="replace"), self.size.width // 3)
            left += (
                f"  {name} · {facts.dtype} · {facts.device} · {facts.stepper} · {meters.memory(*self.backend.memory())}"
            )
        title = self.conversation.title + ("" if self.settings.history.enabled else " (not stored)")
        left, title = (sanitize(text, newlines=False, tabs="replace") for text in (left, title))
        room = max(0, self.size.width - cell_width(left) - 3)
        right = truncate(title, room)
        return f"{left}{' ' * (room - cell_width(right) + 2)}{right}"

    # -- the model --------------------------------------------------------------------------------------------------

    def load(self, name: str | None, command: str = "") -> None:
        """Loads a model; the current one is unloaded first. The user can type meanwhile.

        The `command` that asked for it returns to the prompt if the model cannot be loaded.
        """
        self._command = command
        self.loader.load(self.backend, name, name or self.settings.model.name or "the default model")
        self.draw_top()

    @on(Loading.Ended)
    def _load_ended(self, message: Loading.Ended) -> None:
        name, self._try = self._try, ""
        if message.facts is None:
            waiting = self.conversation.take_waiting()
            self.conversation.hand_back(waiting if waiting or self.prompt.text else self._command)
        else:
            self.conversation.model_loaded(message.facts)
            if not self.attached.reading:
                self._send_waiting()
            if name and not self.transcript.entries:
                self.action_start(name)
        self.draw_top()

    @on(Attached.Read)
    def _images_read(self, message: Attached.Read) -> None:
        for problem in message.problems.values():
            self.notify(explain(problem), severity="warning")
        if message.problems:  # the waiting message was written for that image
            waiting = self.conversation.take_waiting()
            self.conversation.hand_back(waiting)
            if not waiting and not self.prompt.text:  # the command is put back to be corrected
                self.conversation.hand_back(f"/image {next(iter(message.problems))}")
        self._send_waiting()

    def _send_waiting(self) -> None:
        turn = self.conversation.next_waiting()
        if turn is not None and not self.guarded(lambda: self.conversation.post(turn)):
            self.conversation.hand_back(turn.text)

    # -- what is sent -----------------------------------------------------------------------------------------------

    @on(Prompt.Sent)
    def _sent(self, message: Prompt.Sent) -> None:
        self.send(message.text)

    def send(self, text: str) -> None:
        """Sends a message or runs a slash command. A text that is refused is put back into the prompt."""
        if text.strip() and not self.guarded(lambda: self._send(text)):
            self.conversation.hand_back(text)

    def command(self, text: str) -> None:
        """Runs a slash command that was not typed. The prompt stays as it is."""
        self.guarded(lambda: self._send(text))

    def _send(self, text: str) -> None:
        if command := parse(text):
            self._commands.dispatch(*command)
        else:
            self.conversation.send(text, self.loader.error)

    def _argument_choices(self, kind: str) -> Sequence[str]:
        """The choices for the argument of a slash command."""
        if kind == "models":
            return self.backend.names()
        return self.app.theme_names if kind == "themes" else SWITCH

    # -- the draft --------------------------------------------------------------------------------------------------

    @on(CanvasPanel.Changed)
    def _draft_changed(self, message: CanvasPanel.Changed) -> None:
        self.conversation.draft_changed(message.version)
        if self.panel.steering.stopped:
            self.conversation.hand_back(self.conversation.take_waiting())
        self._send_waiting()

    @on(CanvasPanel.Placed)
    def _canvas_placed(self) -> None:
        self.conversation.on_canvas.place()
        self.draw_top()

    @on(CanvasPanel.Accepted)
    def _draft_accepted(self) -> None:
        if self.panel.steering.draft or not self.panel.template:  # a template is shown until it is used
            self.panel.close()
        self.prompt.focus()

    @on(CanvasPanel.Discarded)
    def _draft_discarded(self) -> None:
        self.conversation.discard_draft()
        self.draw_top()
        self.prompt.focus()

    @on(CanvasPanel.Failed)
    def _draft_failed(self) -> None:
        self.conversation.draft_failed()
        self.conversation.hand_back(self.conversation.take_waiting())
        self.prompt.focus()

    # -- keys -------------------------------------------------------------------------------------------------------

    def get_focusable_widget_at(self, x: int, y: int) -> Widget | None:
        """A click on the numbers around a canvas focuses the canvas, not the transcript."""
        found = super().get_focusable_widget_at(x, y)
        if found is self.transcript and self.panel in self.get_widget_at(x, y)[0].ancestors:
            return self.panel.canvas
        return found

    def focus_previous(self, selector: str | type[QueryType] = "*") -> Widget | None:
        """Moves from the prompt to the canvas; reopens the canvas of the last reply."""
        if self.focused is self.prompt and self.panel.steering.draft is not None:
            self.panel.open()
            return self.panel.canvas
        return super().focus_previous(selector)

    def action_start(self, name: str) -> None:
        """Sends a prompt of the start card; one with a name to replace is put into the prompt instead."""
        chosen = TRIES[name]
        if chosen.name:
            self.prompt.load_text(chosen.prompt)
            self.prompt.focus()
            at = chosen.prompt.index(chosen.name)
            self.prompt.selection = Selection((0, at), (0, at + len(chosen.name)))
        elif self.backend.facts is None and not self.loader.error:  # what the prompt holds depends on the model
            self._try = name
            self.notify("this will be sent as soon as the model is loaded")
        elif self.guarded(lambda: hold(name, self.panel.template, self.backend)):
            self.send(chosen.prompt)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enables the keys of the start card while it is shown, and "continue" for a reply that was cut."""
        if action == "continue_reply":
            return self.conversation.is_cut
        return action != "start" or self.has_class("empty")

    def action_regenerate(self) -> None:
        """Rewrites the last reply with a new seed."""
        self.guarded(self.conversation.regenerate)

    def action_continue_reply(self) -> None:
        """Lets the model continue the last reply, which was cut."""
        self.guarded(self.conversation.continue_reply)

    def action_edit_reply(self) -> None:
        """Opens the marked reply on the canvas; of an earlier message, makes a branch in which it can be changed."""
        marked, position = self.transcript.current, self.transcript.position
        if marked is not None and position is not None and marked.role == "user":
            if self.guarded(lambda: self.conversation.edit_message(position)):
                self.prompt.focus()
        else:
            self.guarded(self.conversation.on_canvas.open)

    def action_preview(self) -> None:
        """Opens the preview of a reply, or closes it."""
        self.guarded(self._toggle_preview)

    def _toggle_preview(self) -> None:
        if not self.preview.is_open:
            self.preview.open()
            return
        if self.preview.has_focus:
            self.focus_previous()
        self.preview.close()

    def action_raw(self) -> None:
        """Shows the marked turn as it was written, or rendered."""
        self.transcript.toggle_raw()

    def action_copy(self) -> None:
        """Copies the marked turn, or the last one."""
        if turn := self.transcript.current:
            self._copy(turn.text)

    def _copy(self, text: str) -> None:
        self.app.copy_to_clipboard(text)

    def action_interrupt(self) -> None:
        """Does the first that applies: copies a selection, stops the run, asks for a second press, quits."""
        if self.focused is self.prompt and self.prompt.selected_text:
            self.app.copy_to_clipboard(self.prompt.selected_text)
        elif self.panel.canvas.has_focus and self.panel.canvas.selection:
            self.panel.action_copy()
        elif text := self.get_selected_text() or "":  # with the mouse, in the transcript
            self._copy(text)
            self.clear_selection()
        elif self.panel.steering.stop():
            pass
        elif time.monotonic() - self._interrupted < QUIT_SECONDS:
            self.app.exit()
        else:
            self._interrupted = time.monotonic()
            self.notify("press ctrl+c again to quit")

    def action_stop(self) -> None:
        """Stops the run, whichever part has the focus."""
        self.panel.steering.stop()


class ChatApp(BaseApp):
    """`dgtui chat`."""

    def __init__(
        self,
        backend: Backend,
        store: "Store",
        settings: Settings,
        opening: Opening,
        *,
        theme_folders: Sequence[Path],
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(settings, theme_folders=theme_folders, problems=problems)
        self._backend, self._store, self._opening = backend, store, opening

    def get_default_screen(self) -> Screen[Any]:
        return ChatScreen(self._backend, self._store, self.settings, self.look, self._opening)

    @property
    def chat(self) -> ChatScreen | None:
        """The chat screen, below whatever is open over it."""
        return next((screen for screen in self.screen_stack if isinstance(screen, ChatScreen)), None)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the commands of every screen, and the slash commands without a required argument."""
        yield from super().get_system_commands(screen)
        if (chat := self.chat) is not None:
            for slash in SLASHES:
                if not slash.argument_hint:
                    command = f"/{slash.name}"
                    yield SystemCommand(command, slash.help, lambda command=command: chat.command(command))
