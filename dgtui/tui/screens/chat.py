"""The chat screen: a conversation above, the canvas of the running reply, a prompt below.

The screen holds the conversation and what goes into the next run; the canvas panel holds the reply's draft and steers
it. Every turn is stored when it is said, and a reply again at the end of each of its blocks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.widgets import Footer, Static

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.config import Settings
from dgtui.diffusion.events import Amended
from dgtui.diffusion.job import BadJob, SamplerSettings, Start
from dgtui.errors import DgtuiError
from dgtui.session.chat import Chat, images_left, prompt
from dgtui.session.store import Turn
from dgtui.steering.drafts import Draft, Refused, Version
from dgtui.text import cell_width, decode_utf8, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.commands import SWITCH, parse, said
from dgtui.tui.messages import Loaded, explain
from dgtui.tui.screens.model_screen import ModelScreen
from dgtui.tui.theme import Look
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.attached import Attached, image_name
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.prompt import Prompt
from dgtui.tui.widgets.steering import Steering
from dgtui.tui.widgets.transcript import Entry, Transcript

if TYPE_CHECKING:
    from dgtui.session.store import Store

MOST_TOKENS = 2048
"a reply ends there if the model does not end it"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the screen starts with."""

    model: str | None = None
    conversation: str | None = None
    "id of a stored conversation to go on with"
    system: str = ""
    seed: int | None = None
    think: bool = False
    record: Path | None = None
    images: tuple[Path, ...] = ()
    "for the first message"


class ChatScreen(ModelScreen):
    """Talk to the model, watch its canvas, steer it."""

    DEFAULT_CSS = """
    ChatScreen Transcript { height: 1fr; }
    """
    BINDINGS: ClassVar[list[Any]] = [*keymap.bindings("chat"), *keymap.bindings("talk")]
    CONTEXTS = ("app", "chat", "talk", "prompt", "transcript", "steering", "canvas", "alternatives", "sessions")
    AUTO_FOCUS = "Prompt"

    def __init__(
        self,
        backend: Backend,
        store: "Store",
        settings: Settings,
        look: Look,
        opening: Opening,
        themes: Callable[[], Sequence[str]],
    ) -> None:
        super().__init__(backend, settings, look, opening.seed)
        self.themes = themes
        "the names of those that can be chosen"
        self.store, self.opening = store, opening
        self.chat = Chat(store, opening.model or "", opening.system)
        self.seed = opening.seed
        "of the next reply; None: a new one each"
        self.think = opening.think
        self.sampler: dict[str, Any] = {}
        "sampler settings that were changed here"
        self._laid_out: tuple[RunHandle, Turn] | None = None
        "the run that holds a stored reply, and that reply"
        self._waiting: str | None = None
        self._interrupted = float("-inf")

    def compose(self) -> ComposeResult:
        yield Static(id="top", markup=False)
        yield Transcript(id="transcript")
        yield Loading(id="loading")
        yield Steering(self.backend, self._look, self.new_seed, id="panel")
        yield Attached(self.backend, self.opening.images, id="attached")
        yield Prompt(arguments=self.argument_choices, id="prompt")
        yield Footer()
        yield from self.compose_too_small()

    def on_mount(self) -> None:
        screen = self.settings.screen
        self.panel.max_fps, self.panel.reduced_motion = screen.max_fps, screen.reduced_motion
        self.panel.show_timeline = screen.show_timeline
        self.panel.record_to = self.opening.record
        if self.opening.conversation:
            self.open(self.opening.conversation)
        self.draw_top()
        self.call_after_refresh(self.load, self.opening.model)

    @property
    def panel(self) -> Steering:
        """The canvas."""
        return self.query_one(Steering)

    @property
    def transcript(self) -> Transcript:
        """The conversation so far."""
        return self.query_one(Transcript)

    @property
    def prompt(self) -> Prompt:
        """Where messages are typed."""
        return self.query_one(Prompt)

    @property
    def attached(self) -> Attached:
        """The images of the next message."""
        return self.query_one(Attached)

    def set_look(self, look: Look) -> None:
        """How tokens are drawn from now on."""
        self.panel.look = look

    def model_is_there(self, facts: Facts) -> None:
        """Sends what waited for it."""
        self.chat.model = facts.name
        self.panel.frame = {}  # its ids are another tokenizer's
        self.attached.model_changed(self.chat.images())
        if not self.attached.reading:
            self._send_what_waited()

    @on(Attached.Read)
    def _images_read(self, message: Attached.Read) -> None:
        for problem in message.problems:
            self.say(explain(problem), "warning")
        if message.problems:  # what waits was to go with that image
            self._hand_back(self._waiting)
            self._waiting = None
        self._send_what_waited()

    @on(Loaded)
    def _not_loaded(self, message: Loaded) -> None:
        if message.error is not None:
            self._hand_back(self._waiting)
            self._waiting = None

    def _hand_back(self, text: str | None) -> None:
        """Puts what was not sent into the prompt again, before what was typed since."""
        if text:
            self.prompt.load_text("\n".join(filter(None, (text, self.prompt.message))))

    def _send_what_waited(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.send(waiting)

    def draw_top(self) -> None:
        facts = self.backend.facts
        left = " dgtui"
        if facts:
            size, of = self.backend.memory()
            name = truncate(sanitize(facts.name, newlines=False, tabs="replace"), self.size.width // 3)
            left += f"  {name} · {facts.dtype} · {facts.device} · {meters.memory(size, of)}"
        title = self._title()
        if not self.settings.history.enabled:
            title += " (not stored)"
        left, title = (sanitize(text, newlines=False, tabs="replace") for text in (left, title))
        room = max(0, self.size.width - cell_width(left) - 3)
        right = truncate(title, room)
        self.query_one("#top", Static).update(f"{left}{' ' * (room - cell_width(right) + 2)}{right}")

    def _title(self) -> str:
        if self.chat.id is None:
            return "new conversation"
        try:
            return self.store.get(self.chat.id).title
        except DgtuiError:  # deleted by another program: the next turn puts it back
            return "deleted elsewhere"

    # -- the conversation -------------------------------------------------------------------------------------------

    def open(self, conversation: str) -> None:
        """Goes on with a stored conversation."""

        def work() -> None:
            found = self.store.get(conversation)
            self.chat = Chat.open(self.store, found.id, self.chat.model, found.system)
            self.transcript.set_turns([_entry(turn) for turn in self.chat.turns])
            self.prompt.past = [turn.text for turn in self.chat.turns if turn.role == "user"]
            self.attached.conversation(self.chat.images())
            self.panel.draft, self.panel.frame = None, {}
            self.panel.close()
            self.draw_top()

        self.guarded(work)

    def new(self) -> None:
        """Begins a conversation."""
        self.chat = Chat(self.store, self.chat.model, self.opening.system)
        self.transcript.set_turns([])
        self.attached.conversation(())
        self.panel.draft, self.panel.frame = None, {}
        self.panel.close()
        self.draw_top()

    @on(Prompt.Sent)
    def _sent(self, message: Prompt.Sent) -> None:
        self.send(message.text)

    def send(self, text: str) -> None:
        """Says something to the model, or obeys a slash command; what is refused is in the prompt again."""
        if text.strip() and not self.guarded(lambda: self._send(text)):
            self._hand_back(text)

    def command(self, text: str) -> None:
        """Obeys a slash command that was not typed: the prompt stays as it is."""
        self.guarded(lambda: self._send(text))

    def _send(self, text: str) -> None:
        found = parse(text)
        if found is not None:
            from dgtui.tui.screens.chat_commands import obey

            obey(self, found[0], found[1])
        elif self.backend.facts is None and self.load_error:
            raise Refused("no model is loaded", hint="load one with /model, then send again")
        elif self.backend.facts is None or self.attached.reading:
            until = "the images are read" if self.backend.facts else "the model is loaded"
            if self._waiting is not None:
                raise Refused("a message is waiting already", hint=f"it is sent as soon as {until}")
            self._waiting = text
            self.say(f"this is sent as soon as {until}")
        elif self.panel.running:
            raise Refused("a reply is being written", hint="esc stops it, then send again")
        else:
            self._say_to_model(said(text))

    def _say_to_model(self, text: str) -> None:
        before = len(self.chat.turns)
        turn = Turn("user", text, images=self.attached.take())
        self._store(lambda: self.chat.add(turn))
        self.transcript.add(_entry(turn))
        try:
            self.reply()
        except (DgtuiError, BadJob):
            self._store(lambda: self.chat.rewind(before))
            self.transcript.truncate(before)
            self.attached.put_back(turn.images)
            raise

    def _store(self, work: Callable[[], Any]) -> None:
        """Keeps something; a disk that is full ends no conversation."""
        try:
            work()
        except DgtuiError as error:
            self.say(f"not stored: {explain(error)}", "error")

    def reply(self, again: bool = False) -> None:
        """Answers the conversation as it stands, in a draft of its own.

        `again` writes the last reply anew under another seed; the one before stays among the versions.
        """
        facts = self.backend.facts
        if facts is None:
            raise Refused("no model is loaded", hint="load one with /model")
        room = facts.model.max_context - facts.model.canvas_length
        messages = self._messages()
        if again and messages[-1].role == "model":
            messages.pop()
        ids, dropped = prompt(messages, lambda m: self.backend.chat(m, self.think), room)
        if dropped and not again:
            self.transcript.notice(f"the context is full: the first {dropped} turns are no longer seen by the model")
        before = self.panel.draft if again else None
        draft = before or Draft(facts, self.sampler_settings())
        seed = self.new_seed() if again or self.seed is None else self.seed
        frame = dict(self.panel.frame)
        most, images = min(MOST_TOKENS, facts.model.max_context - len(ids)), images_left(messages, dropped)
        job = draft.first(ids, seed, most, frame, images)
        pins = {0: frozenset(frame)} if frame else {}
        if before and not self._is_laid_out(first := before.versions[0]):
            job, pins = replace(job, starts=first.run.job.starts), first.pins
        if again:
            position = len(self.chat.turns) - 1
            self._store(lambda: self.chat.rewind(position))
            self.transcript.truncate(position)
        self._store(lambda: self.chat.add(Turn("model", "", seed=seed, finished=False)))
        self.transcript.add(Entry("model", "", finished=False))
        if before:
            self.panel.run(draft, "reply", job, pins=pins)
        else:
            self.panel.start(draft, job, pins)
        self.draw_top()

    def sampler_settings(self) -> SamplerSettings:
        """The model's own, and what was changed here."""
        facts = self.backend.facts
        assert facts is not None
        return replace(facts.settings, **self.sampler)

    def _messages(self) -> list[Any]:
        """The conversation; ids that this model's tokenizer would read otherwise are left out."""
        return [
            m if not m.token_ids or self._reads(m.token_ids, m.content) else replace(m, token_ids=())
            for m in self.chat.messages(self.attached.see)
        ]

    def _reads(self, ids: tuple[int, ...], text: str) -> bool:
        try:
            return decode_utf8(b"".join(self.backend.pieces(ids))) == text
        except (IndexError, KeyError, ValueError):
            return False

    # -- the draft --------------------------------------------------------------------------------------------------

    @on(Steering.Changed)
    def _draft_changed(self, message: Steering.Changed) -> None:
        draft, version = self.panel.draft, message.version
        if draft is None or version not in draft.versions or self.chat.turns[-1:] == []:
            return  # of a draft that is gone
        if self.chat.turns[-1].role != "model":
            return
        while not version.frames() and version.parent:  # stopped before its first step: it is what it was made from
            version = version.parent
        if self._laid_out and self._is_laid_out(version):
            turn = self._laid_out[1]
        elif version.frames():
            turn = self._turn(version)
        elif version.run.log.finished:
            turn = replace(self.chat.turns[-1], stop_reason="cancelled", finished=True)
        else:
            return
        self._store(lambda: self.chat.revise(turn))
        self.transcript.replace_last(_entry(turn))
        self.draw_top()

    def _turn(self, version: Version) -> Turn:
        assert self.panel.draft is not None
        thought, answer = self.backend.split_thought(version.reply_ids(self.panel.draft.facts.model.stop_ids))
        origin = version
        while origin.kind != "reply" and origin.parent:
            origin = origin.parent
        if self._laid_out and self._is_laid_out(origin):
            thought = self._laid_out[1].thought  # it was not laid out
        finished = version.run.log.finished
        last = version.run.log[len(version.run.log) - 1]
        return Turn(
            role="model",
            text=decode_utf8(b"".join(self.backend.pieces(answer))),
            token_ids=tuple(answer),
            thought=thought,
            seed=version.run.job.seed,
            steps=sum(finished.steps) if finished else len(version.frames()),
            stop_reason=str(finished.reason) if finished else "",
            # Of a run that wrote a part only, seconds would pose as the whole reply's
            seconds=last.seconds if version.kind == "reply" and not isinstance(last, Amended) else 0.0,
            finished=finished is not None,
        )

    @on(Steering.Accepted)
    def _accepted(self) -> None:
        if self.panel.draft or not self.panel.frame:  # what is pinned for the next run stays in sight
            self.panel.close()
        self.prompt.focus()

    @on(Steering.Discarded)
    def _discarded(self) -> None:
        """A reply that was stopped goes, and its question is in the prompt again; a whole one stays."""
        empty = not self.prompt.text
        if self.panel.stopped and self._take_back():
            self.panel.draft = None
            where = "its question is in the prompt again" if empty else "up recalls its question in an empty prompt"
            self.say(f"draft discarded; {where}")
        self.panel.frame = {}
        self.panel.close()
        self.prompt.focus()

    @on(Steering.Failed)
    def _failed(self) -> None:
        """A reply that was never begun goes too; what was finished of it stays."""
        if self.chat.turns and self.chat.turns[-1].role == "model" and not self.chat.turns[-1].text:
            self._take_back()
        self.prompt.focus()

    def _take_back(self) -> bool:
        """Takes the last reply and its question out of the conversation; the question is in the prompt again."""
        turns = self.chat.turns
        if len(turns) < 2 or turns[-1].role != "model":
            return False
        question, images = turns[-2].text, turns[-2].images
        self._store(lambda: self.chat.rewind(len(turns) - 2))
        self.transcript.truncate(len(self.chat.turns))
        if not self.prompt.text:
            self.prompt.load_text(question)
            self.attached.put_back(images)
        return True

    def _last_reply(self) -> Turn:
        if self.panel.running:
            raise Refused("a reply is being written", hint="esc stops it")
        if not self.chat.turns or self.chat.turns[-1].role != "model":
            raise Refused("there is no reply yet")
        return self.chat.turns[-1]

    def action_regenerate(self) -> None:
        """Writes the last reply anew under another seed; the one before stays among the versions."""

        def work() -> None:
            self._last_reply()
            self.reply(again=True)

        self.guarded(work)

    def action_edit_reply(self) -> None:
        """Opens the last reply on the canvas, to be steered and continued."""

        def work() -> None:
            turn = self._last_reply()
            if self.panel.draft is None:
                self._reopen(turn)
            self.panel.add_class("open")
            self.panel.repaint()
            self.panel.canvas.focus()

        self.guarded(work)

    def _reopen(self, turn: Turn) -> None:
        """A draft for a stored reply: a run in which all of it is pinned takes no step and is its own result."""
        facts = self.backend.facts
        if facts is None:
            raise Refused("no model is loaded yet")
        ids = turn.token_ids
        if not ids:
            raise Refused("this reply is empty", hint="R writes it anew")
        if not self._reads(ids, turn.text):
            raise Refused("this reply was written by another model", hint="R writes it anew")
        length = facts.model.canvas_length
        whole = [*ids, facts.model.turn_end_id] if turn.stop_reason != "length" else [*ids]
        whole += [facts.model.fill_id] * (-len(whole) % length)
        blocks = [tuple(whole[at : at + length]) for at in range(0, len(whole), length)]
        messages = self._messages()[:-1]
        room = facts.model.max_context - len(whole)
        question, dropped = prompt(messages, lambda m: self.backend.chat(m, self.think), room)
        draft = Draft(facts, self.sampler_settings())
        job = draft.first(question, turn.seed or 0, len(whole), {}, images_left(messages, dropped))
        held = Start(blocks[-1], frozenset(range(length)))
        laid_out = self.panel.start(draft, replace(job, blocks=tuple(blocks[:-1]), starts=(held,)))
        self._laid_out = laid_out.run, turn

    def _is_laid_out(self, version: Version) -> bool:
        """It is a stored reply on the canvas, and no run of this model."""
        return self._laid_out is not None and version.run is self._laid_out[0]

    # -- keys -------------------------------------------------------------------------------------------------------

    def action_raw(self) -> None:
        """Shows the last reply as it was written, or rendered."""
        self.transcript.toggle_raw()

    def action_copy(self) -> None:
        """Copies the turn that is marked, else the last one."""
        if turn := self.transcript.current:
            self.app.copy_to_clipboard(turn.text)
            self.say(f"{len(turn.text)} characters copied")

    def action_interrupt(self) -> None:
        """Copies a selection, else stops the run, else asks once more before it quits."""
        text = self.prompt.selected_text if self.focused is self.prompt else ""
        if text:
            self.app.copy_to_clipboard(text)
        elif self.panel.canvas.has_focus and self.panel.canvas.selection:
            self.panel.action_copy()
        elif text := self.get_selected_text() or "":  # with the mouse, in the transcript
            self.app.copy_to_clipboard(text)
            self.clear_selection()
            self.say(f"{len(text)} characters copied")
        elif self.panel.stop():
            pass
        elif time.monotonic() - self._interrupted < 2:
            self.app.exit()
        else:
            self._interrupted = time.monotonic()
            self.say("ctrl+c once more quits")

    def action_stop(self) -> None:
        """Stops the run, from wherever the keys are."""
        self.panel.stop()

    def argument_choices(self, kind: str) -> list[str]:
        """What a slash command's argument is completed from."""
        if kind == "models":
            return self.backend.names()
        if kind == "themes":
            return list(self.themes())
        return list(SWITCH)


def _entry(turn: Turn) -> Entry:
    parts = [f"image: {image_name(image.path)}" for image in turn.images]
    if turn.role == "model":
        if turn.steps:
            parts.append(f"{turn.steps} step{'s' if turn.steps > 1 else ''}")
        if turn.seconds and turn.token_ids:
            parts.append(f"{len(turn.token_ids) / turn.seconds:.0f} tok/s wall")
        if turn.stop_reason:
            parts.append({"cancelled": "stopped", "length": "cut: out of room"}.get(turn.stop_reason, "ended"))
        elif not turn.finished:
            parts.append("unfinished")
        if turn.seed is not None:
            parts.append(f"seed {turn.seed}")
    return Entry(turn.role, turn.text, thought=turn.thought, note=" · ".join(parts), finished=turn.finished)
