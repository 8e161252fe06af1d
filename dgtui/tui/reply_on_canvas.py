"""The reply of the conversation that is on the canvas: the one being written, or a stored one that was reopened.

The canvas takes the place of that reply in the transcript. Earlier blocks of the reply are drawn above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.events import Amended
from dgtui.session.chat import images_left
from dgtui.session.records import Turn
from dgtui.steering.drafts import Draft, Refused, Version
from dgtui.text import decode_utf8
from dgtui.tui.frames import settled_text
from dgtui.tui.stored_run import stored_run
from dgtui.tui.widgets.canvas_panel import CanvasPanel
from dgtui.tui.widgets.entry_view import Entry, turn_entry
from dgtui.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from dgtui.tui.conversation_controller import ConversationController


class ReplyOnCanvas:
    """The place of the canvas in a conversation."""

    def __init__(
        self, conversation: ConversationController, backend: Backend, panel: CanvasPanel, transcript: Transcript
    ) -> None:
        self._talk, self._backend, self._panel, self._transcript = conversation, backend, panel, transcript
        self._reopened: tuple[RunHandle, Turn] | None = None
        "the run that stands for a stored reply, and that reply"

    def stored(self, version: Version) -> Turn | None:
        """The stored reply that a version stands for; None for a run of this program."""
        return self._reopened[1] if self._reopened and version.run is self._reopened[0] else None

    def turn(self, draft: Draft, version: Version) -> Turn:
        """The reply that a version with steps makes."""
        log, origin = version.run.log, version
        thought, answer = self._backend.split_thought(version.reply_ids(draft.facts.model.stop_ids))
        while origin.kind not in ("reply", "between") and origin.parent:
            origin = origin.parent
        if not origin.frames() and (stored := self.stored(origin)):
            thought = stored.thought  # the canvas holds the answer only
        finished, last = log.finished, log[len(log) - 1]
        # A run that was asked to stop counts as stopped at once: the program may end before the run does.
        reason = str(finished.reason) if finished else "cancelled" if version.run.control.cancelled else ""
        return Turn(
            role="model",
            text=decode_utf8(b"".join(self._backend.pieces(answer))),
            token_ids=tuple(answer),
            thought=thought,
            seed=version.run.job.seed,
            steps=sum(finished.steps) if finished else len(version.frames()),
            stop_reason=reason,
            # A run that rewrote only a part does not give the time of the whole reply
            seconds=last.seconds if version.kind in ("reply", "between") and not isinstance(last, Amended) else 0.0,
            finished=bool(reason),
        )

    def open(self) -> None:
        """Opens the marked reply on the canvas: the last one to steer and continue it, an earlier one to see its steps.

        The reply to a marked question counts as marked.
        """
        self._talk.refuse_while_running()
        turns, at = self._talk.chat.turns, self._transcript.position
        if at is not None and turns[at].role == "user":
            at += 1
        if at is None or at >= len(turns) - 1:
            self.last_draft()
        elif at != self._panel.steering.past:
            self.look_away()
            self._reopen(turns[at], at)
            self._panel.steering.past = at
        self._panel.open()
        self.place()

    def last_draft(self) -> Draft:
        """The draft of the last reply, created from the stored reply if there is none. Raises `Refused`."""
        turn, steering = self._talk.last_reply(), self._panel.steering
        if steering.past is not None or steering.draft is None:
            self.look_away()
            self._reopen(turn, len(self._talk.chat.turns) - 1)
        assert steering.draft is not None
        return steering.draft

    def look_away(self) -> None:
        """Draws an earlier reply that was on the canvas as a message again."""
        steering = self._panel.steering
        if steering.past is not None:
            self._transcript.replace(steering.past, turn_entry(*self._talk.chat.answer(steering.past)))
            self._panel.clear()
        steering.past = None

    def _reopen(self, turn: Turn, at: int) -> None:
        """Makes a draft of a stored reply. Its run has the stored steps. If there are none, it is a run with every
        position pinned, which takes no step and is its own result; that is for the last reply only."""
        facts = self._talk.facts()
        ids, model = turn.token_ids, facts.model
        if not ids:
            raise Refused("this reply is empty", hint="press R to write it again")
        messages = self._talk.messages(at)
        if not self._talk.reads(ids, turn.text):
            raise Refused("this reply was written by another model", hint="press R to write it again")
        is_last = at == len(self._talk.chat.turns) - 1
        whole = [*ids, model.turn_end_id] if turn.stop_reason != "length" else [*ids]
        whole += [model.fill_id] * (-len(whole) % model.canvas_length)
        prompt_ids, dropped = self._talk.prompt_ids(messages, len(whole))
        draft = Draft(facts, self._talk.settings())
        job = draft.first(prompt_ids, turn.seed or 0, len(whole), {}, images_left(messages, dropped))
        if run := stored_run(self._talk.chat.timeline(at), job):
            draft.add("reply", run)
            if self._backend.split_thought(draft.version.reply_ids(model.stop_ids))[1] == ids:
                self._panel.show_draft(draft)
                self._reopened = run, turn
                return
            draft = Draft(facts, self._talk.settings())
        if not is_last:
            raise Refused("the steps of this reply are not stored")
        self._reopened = self._panel.start(draft, draft.written(job, whole)).run, turn

    def previewed(self) -> str:
        """The text of the reply on the canvas as it is shown there, without what has not settled; else of the marked
        reply; else of the last one."""
        panel, draft, version, view = self._panel, self._panel.steering.draft, self._panel.steering.version, None
        if panel.is_open and draft is not None and version is not None:
            view = panel.canvas.view
        if draft is None or version is None or view is None:
            marked = self._transcript.current
            replies = [entry for entry in self._transcript.entries if entry.role == "model"]
            entry = marked if marked is not None and marked.role == "model" else replies[-1] if replies else None
            return "" if entry is None else entry.text
        above = version.reply_ids(draft.facts.model.stop_ids, panel.block)
        frame = panel.steering.frame
        here = version.ids(panel.block) if frame is None else frame.ids
        ids = [] if here is None else here[: view.end][view.settled[: view.end][: len(here)]].tolist()
        thought, answer = self._backend.split_thought([*above, *ids])
        if thought:
            return decode_utf8(b"".join(self._backend.pieces(answer)))
        return decode_utf8(b"".join(self._backend.pieces(above))) + settled_text(view)

    def place(self) -> None:
        """Draws the draft's reply in the transcript: earlier blocks above the canvas, or the whole reply if the canvas
        is closed."""
        turns, panel = self._talk.chat.turns, self._panel
        at = len(turns) - 1 if self._panel.steering.past is None else self._panel.steering.past
        if at < 0 or turns[at].role != "model":
            panel.name_reply(True)
            return
        entry = turn_entry(*self._talk.chat.answer(at))
        draft, version = panel.steering.draft, panel.steering.version
        if panel.is_open and draft is not None and version is not None:
            stop_ids = draft.facts.model.stop_ids
            thought, above = self._backend.split_thought(version.reply_ids(stop_ids, panel.block))
            text = decode_utf8(b"".join(self._backend.pieces(above)))
            if not version.frames() and (stored := self.stored(version)):
                thought = stored.thought  # the canvas holds the answer only
            entry = Entry("model", text, thought=thought, on_canvas=True)
        self._transcript.replace(at, entry)
        panel.name_reply(not entry.is_shown)
