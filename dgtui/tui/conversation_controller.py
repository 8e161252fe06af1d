"""The conversation on the chat screen: sends messages, receives replies, and stores both.

Every turn is stored when it is sent, and a reply again at the end of each of its blocks. An impossible action raises
`Refused` or another `DgtuiError` and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dgtui import sudoku
from dgtui.backend import Backend, Facts
from dgtui.diffusion.settings import BadJob, SamplerSettings
from dgtui.errors import DgtuiError, PromptTooLong
from dgtui.message import Message
from dgtui.session.chat import Chat, images_left, prompt
from dgtui.session.store import ConversationNotFound, Turn
from dgtui.session.text_files import attached, too_long
from dgtui.steering import puzzles
from dgtui.steering.between import write_between
from dgtui.steering.drafts import Draft, Refused, Version
from dgtui.text import decode_utf8
from dgtui.tui.commands import unescaped
from dgtui.tui.messages import explain
from dgtui.tui.opening import Opening
from dgtui.tui.reply_on_canvas import ReplyOnCanvas
from dgtui.tui.widgets.attached import Attached
from dgtui.tui.widgets.canvas_panel import CanvasPanel
from dgtui.tui.widgets.entry_view import turn_entry
from dgtui.tui.widgets.prompt import Prompt
from dgtui.tui.widgets.transcript import Entry, Transcript

if TYPE_CHECKING:
    from dgtui.session.store import Store


class ConversationController:
    """One conversation, and the widgets that show it.

    Args:
        seeds: Draws the seed of each reply.
        changed: Called when another conversation is shown, or a reply has started.
    """

    def __init__(
        self,
        backend: Backend,
        store: "Store",
        opening: Opening,
        seeds: Callable[[], int],
        changed: Callable[[], None],
        *,
        panel: CanvasPanel,
        transcript: Transcript,
        prompt: Prompt,
        attached: Attached,
    ) -> None:
        self._backend, self.store, self._opening, self._seeds, self._changed = backend, store, opening, seeds, changed
        self._panel, self._transcript, self._prompt, self._attached = panel, transcript, prompt, attached
        self.chat = Chat(store, opening.model or "", opening.system)
        self.seed = opening.seed
        "seed of all replies; None: a new one each time"
        self.think = opening.think
        self.on_canvas = ReplyOnCanvas(self, backend, panel, transcript)
        self._waiting: list[Turn] = []
        "messages to be sent, in order"

    # -- which conversation -----------------------------------------------------------------------------------------

    def open(self, conversation: str) -> None:
        """Continues a stored conversation."""
        stored = self.store.get(conversation)
        self._show(Chat.open(self.store, stored, self.chat.model))

    def new(self) -> None:
        """Starts a new conversation."""
        self._show(Chat(self.store, self.chat.model, self._opening.system, settings=self.chat.settings))

    def _show(self, chat: Chat) -> None:
        self.chat = chat
        pairs = zip(chat.turns, (None, *chat.turns), strict=False)
        self._transcript.set_turns([turn_entry(turn, before) for turn, before in pairs])
        if chat.turns:
            self._prompt.past = [turn.text for turn in chat.turns if turn.role == "user"]
        self._attached.conversation(chat.images())
        self._attached.keep(())
        self._panel.steering.past = None
        self._panel.clear()
        self._changed()

    @property
    def title(self) -> str:
        """The conversation's title."""
        if self.chat.id is None:
            return "new conversation"
        try:
            return self.store.get(self.chat.id).title
        except DgtuiError:  # the next turn stores it again
            return "deleted by another program"

    @property
    def is_deleted(self) -> bool:
        """Whether it was stored but no longer is."""
        if self.chat.id is None:
            return False
        try:
            self.store.get(self.chat.id)
        except ConversationNotFound:
            return True
        return False

    def _store(self, work: Callable[[], object]) -> None:
        """Stores something. A failure, such as a full disk, must not end the conversation."""
        try:
            work()
        except DgtuiError as error:
            self._prompt.notify(f"not stored: {explain(error)}", severity="error")

    # -- sending ----------------------------------------------------------------------------------------------------

    def model_loaded(self, facts: Facts) -> None:
        """Switches to another model."""
        self.chat.model = facts.name
        self._panel.template.clear()  # its ids belong to another tokenizer
        self._attached.model_changed(self.chat.images())

    def take_waiting(self) -> str:
        """The messages that wait to be sent, a line each; they wait no longer. Their text files are kept."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._attached.keep(file for turn in waiting for file in turn.files)
        return "\n".join(turn.text for turn in waiting)

    def hand_back(self, text: str) -> None:
        """Puts what was not sent back into the prompt, before what was typed since."""
        if text:
            self._prompt.load_text("\n".join(filter(None, (text, self._prompt.message))))

    def next_waiting(self) -> Turn | None:
        """The next message that can be sent now; it waits no longer. None: there is none, or something is not ready."""
        if self._backend.facts is None or self._attached.reading or self._panel.steering.running or not self._waiting:
            return None
        return self._waiting.pop(0)

    def send(self, text: str, load_error: str = "") -> None:
        """Sends a message, or keeps it until the model, its images and the reply before it are there.

        Raises:
            Refused: It cannot be sent now. `load_error` is the reason if the model failed to load.
            DocumentRefused: A text file that it names cannot be attached.
        """
        turn = Turn("user", text, files=attached(text, self._attached.kept))
        sudoku.refuse_contradiction(turn.content)
        facts = self._backend.facts
        if facts is None and load_error:
            raise Refused("no model is loaded", hint="load one with /model, then send the message again")
        if facts is None or self._attached.reading or self._panel.steering.running:
            loading = "the model is loaded" if facts is None else "the images are read"
            until = loading if facts is None or self._attached.reading else "the reply is finished"
            self._waiting.append(turn)
            self._attached.keep(())
            self._prompt.notify(f"this will be sent as soon as {until} ({len(self._waiting)} waiting)")
            return
        self.post(turn)

    def post(self, turn: Turn) -> None:
        """Sends a message that has its text files, with the attached images."""
        self.on_canvas.look_away()
        before, kept = len(self.chat.turns), self._attached.kept
        turn = replace(turn, text=unescaped(turn.text), images=self._attached.take())
        self._store(lambda: self.chat.add(turn))
        self._transcript.add(turn_entry(turn))
        self._store(self._report_others)
        try:
            self.reply()
        except (DgtuiError, BadJob) as error:
            self._rewind(before)
            self._attached.put_back(turn.images)
            self._attached.keep(kept)
            if isinstance(error, PromptTooLong):
                raise too_long(turn.files, self._backend.encode, error) from error
            raise

    def _report_others(self) -> None:
        if count := self.chat.added_elsewhere():
            turns = f"{count} turn{'s' if count > 1 else ''}"
            self._transcript.notice(
                f"another window has added {turns} to this conversation; the model does not see them here "
                "(use /sessions to reopen it with them)"
            )

    def refuse_while_running(self) -> None:
        """Raises `Refused` while a reply is being written."""
        if self._panel.steering.running:
            raise Refused("a reply is being written", hint="press esc to stop it")

    def _rewind(self, position: int) -> None:
        self._store(lambda: self.chat.rewind(position))
        self._transcript.truncate(position)

    # -- replying ---------------------------------------------------------------------------------------------------

    def reply(self, again: bool = False) -> None:
        """Answers the current conversation, in a new draft.

        `again` rewrites the last reply with a new seed; the previous reply is kept as a version.
        """
        facts = self.facts()
        messages = self.messages()
        if again and messages[-1].role == "model":
            messages.pop()
        ids, dropped = self.prompt_ids(messages, facts.model.canvas_length)
        if dropped and not again:
            self._transcript.notice(f"the context is full: the model no longer sees the first {dropped} turns")
        before = self._panel.steering.draft if again else None
        draft = before or Draft(facts, self.settings())
        seed = self._seeds() if again or self.seed is None else self.seed
        fixed = self._panel.template.fixed or self._puzzle(messages[-1], facts)
        most, images = min(self._opening.max_tokens, facts.model.max_context - len(ids)), images_left(messages, dropped)
        job = draft.first(ids, seed, most, fixed, images)
        pins = {0: frozenset(p for p, token in fixed.items() if token != facts.model.fill_id)} if fixed else {}
        if not before:
            draft.between = self._panel.template.canvas()
        elif not self.on_canvas.stored(first := before.versions[0]) and not before.between:
            job, pins = replace(job, starts=first.run.job.starts), first.pins
        if again:
            self._rewind(len(self.chat.turns) - 1)
        self._store(lambda: self.chat.add(Turn("model", "", seed=seed, finished=False)))
        self._transcript.add(Entry("model", "", finished=False, on_canvas=True))
        if draft.between:
            self._panel.start_between(draft, write_between(job, draft.between, facts.model))
        elif before:
            self._panel.run("reply", job, pins)
        else:
            self._panel.start(draft, job, pins)
        self.on_canvas.place()
        self._changed()

    def _puzzle(self, message: Message, facts: Facts) -> dict[int, int]:
        """The tokens that a pasted puzzle pins on the first canvas, by position."""
        if facts.fixed or self.think or message.images or message.role != "user":
            return {}
        start = puzzles.laid_out(message.content, self._backend.encode, facts.model)
        return {place: start.ids[place] for place in start.pinned} if start.ids else {}

    def regenerate(self) -> None:
        """Rewrites the last reply with a new seed; the previous reply is kept as a version."""
        self.last_reply()
        self.on_canvas.look_away()
        self.reply(again=True)

    @property
    def is_cut(self) -> bool:
        """Whether the last reply was cut by the token limit."""
        turns = self.chat.turns
        return bool(turns) and turns[-1].stop_reason == "length" and not self._panel.steering.running

    def continue_reply(self) -> None:
        """Lets the model continue a reply that was cut."""
        if not self.is_cut:
            raise Refused("the reply is complete", hint="press R to write it again")
        draft = self.on_canvas.last_draft()
        ids = draft.version.reply_ids(self.facts().model.stop_ids) or self.last_reply().token_ids
        self._panel.run("continue", draft.further(ids, self._opening.max_tokens, self._seeds()), draft.version.pins)
        self.on_canvas.place()
        self._changed()

    def edit_message(self, position: int) -> None:
        """Puts an earlier message into the prompt, in a branch with the turns before it. The conversation is kept."""
        self.refuse_while_running()
        turn = self.chat.turns[position]
        self._show(self.chat.branch(position))
        self._prompt.load_text(turn.text)
        self._attached.put_back(turn.images)
        self._attached.keep(turn.files)
        self._prompt.notify("a branch: the conversation as it was is in /sessions")

    def last_reply(self) -> Turn:
        """The last turn. Raises `Refused` if it is not a reply, or one is being written."""
        self.refuse_while_running()
        if not self.chat.turns or self.chat.turns[-1].role != "model":
            raise Refused("there is no reply yet")
        return self.chat.turns[-1]

    def settings(self) -> SamplerSettings:
        """The model's own sampler settings with the changes of this conversation."""
        return replace(self.facts().settings, **self.chat.settings)

    def change_setting(self, name: str, value: float | None) -> None:
        """Changes a sampler setting from the next run on; None restores the model's own. Raises `BadJob`."""
        changed = {key: kept for key, kept in self.chat.settings.items() if key != name}
        if value is not None:
            changed[name] = value
        replace(self.facts().settings, **changed)  # raises if they contradict each other
        self._store(lambda: self.chat.set_settings(changed))
        if draft := self._panel.steering.draft:
            draft.settings = self.settings()

    def facts(self) -> Facts:
        """The loaded model. Raises `Refused` if there is none."""
        if self._backend.facts is None:
            raise Refused("no model is loaded", hint="load one with /model")
        return self._backend.facts

    def prompt_ids(self, messages: Sequence[Message], reply: int) -> tuple[list[int], int]:
        """The ids of the newest messages that leave room for a reply, and how many messages were left out."""
        room = self.facts().model.max_context - reply
        return prompt(puzzles.normalised(messages), lambda kept: self._backend.chat(kept, think=self.think), room)

    def messages(self, before: int | None = None) -> list[Message]:
        """The messages, or those `before` a turn. Ids that this tokenizer would decode differently are left out."""
        return [
            message
            if self.reads(message.token_ids, message.content) and message.token_ids
            else replace(message, token_ids=())
            for message in self.chat.messages(self._attached.see, before)
        ]

    def reads(self, ids: Sequence[int], text: str) -> bool:
        """Whether the tokenizer decodes these ids to the text; names in the text are bound first."""
        try:
            self._backend.encode(text)
            return decode_utf8(b"".join(self._backend.pieces(ids))) == text
        except (IndexError, KeyError, ValueError):
            return False

    # -- the draft --------------------------------------------------------------------------------------------------

    def draft_changed(self, version: Version) -> None:
        """Stores a version as the reply."""
        draft, turns = self._panel.steering.draft, self.chat.turns
        if self._panel.steering.past is not None or draft is None or version not in draft.versions:
            return  # an earlier reply, or the draft is gone
        if not turns or turns[-1].role != "model":
            return
        while not version.frames() and version.parent:  # stopped before its first step: use the previous version
            version = version.parent
        if stored := self.on_canvas.stored(version):
            turn = stored
        elif version.frames():
            turn = self.on_canvas.turn(draft, version)
        elif version.run.log.finished or version.run.control.cancelled:
            turn = replace(turns[-1], stop_reason="cancelled", finished=True)
        else:
            return
        self._store(lambda: self.chat.revise(turn))
        if not version.running or version.run.control.cancelled:
            self._keep_steps(version)
        self.on_canvas.place()
        self._changed()
        if version.run.log.finished and turn.stop_reason == "length":
            self._prompt.notify("the reply was cut: use /continue to continue it")

    def _keep_steps(self, version: Version) -> None:
        from dgtui.session.timeline import pack_timeline

        if version.frames():
            self._store(lambda: self.chat.keep_timeline(pack_timeline(version.run.log.copy(), version.candidate)))

    def keep_draft(self) -> None:
        """Stops a running reply and stores what it has written so far."""
        if self._panel.steering.stop() and (version := self._panel.steering.version):
            self.draft_changed(version)

    def draft_failed(self) -> None:
        """Removes a reply that never started. Finished parts of it are kept."""
        if self.chat.turns and self.chat.turns[-1].role == "model" and not self.chat.turns[-1].text:
            self._take_back()

    def discard_draft(self) -> None:
        """Removes a reply that was stopped and puts its question into the prompt; any other reply is kept."""
        was_empty, version = not self._prompt.text, self._panel.steering.version
        is_stored = version is not None and self.on_canvas.stored(version) is not None
        if self._panel.steering.stopped and not is_stored and self._take_back():
            self._panel.steering.draft = None
            where = "is back in the prompt" if was_empty else "can be recalled with up in an empty prompt"
            self._prompt.notify(f"draft discarded; its question {where}")
        self._panel.template.clear()
        self._panel.close()

    def _take_back(self) -> bool:
        """Removes the last reply and its question from the conversation; the question goes back into the prompt."""
        turns = self.chat.turns
        if len(turns) < 2 or turns[-1].role != "model":
            return False
        question = turns[-2]
        self._rewind(len(turns) - 2)
        if not self._prompt.text:
            self._prompt.load_text(question.text)
            self._attached.put_back(question.images)
            self._attached.keep(question.files)
        return True
