"""The part of the edit screen that asks the model: runs that resolve in the text, and the review of what they found.

While a proposal resolves or is reviewed, the text is read-only, and the bar below it has the focus. Nothing is changed
but by accepting; whatever was proposed is kept, and `proposals` opens it again.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from textual import on

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.config import Settings
from dgtui.document.buffer import Buffer
from dgtui.steering import proposals
from dgtui.steering.proposals import InfillSearch, Passage, Passages, Review, Span
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded, explain
from dgtui.tui.pace import Pace
from dgtui.tui.screens.model_screen import ModelScreen
from dgtui.tui.theme import Look
from dgtui.tui.widgets import review as drawing
from dgtui.tui.widgets.brush import Brush
from dgtui.tui.widgets.editor import Editor, Overlay
from dgtui.tui.widgets.review import ReviewBar


class ProposingScreen(ModelScreen):
    """A text view and a bar, and what goes on between them and the model. `EditScreen` is the rest."""

    record_to: Path | None

    def __init__(self, backend: Backend, settings: Settings, look: Look, seed: int | None) -> None:
        super().__init__(backend, settings, look, seed)
        self._work: InfillSearch | None = None
        self._review: Review | None = None
        self._waiting: tuple[Passage, str | None] | None = None
        "asked for before there was a model"
        self._began = 0.0
        self._pace = Pace(settings.screen.max_fps)

    # -- what the whole screen has --------------------------------------------------------------------------------

    passages: Passages

    @property
    def buffer(self) -> Buffer:
        """The text."""
        raise NotImplementedError

    @property
    def is_asking(self) -> bool:
        """The person is typing an answer to the screen."""
        raise NotImplementedError

    def edited(self) -> None:
        """The buffer was changed: the text view has to know."""
        raise NotImplementedError

    @property
    def editor(self) -> Editor:
        """The text view."""
        return self.query_one(Editor)

    @property
    def bar(self) -> ReviewBar:
        """The line below it."""
        return self.query_one(ReviewBar)

    def set_look(self, look: Look) -> None:
        """How tokens and changes are drawn from now on."""
        self._look = self.editor.look = look
        self.redraw()

    def on_resize(self) -> None:
        super().on_resize()
        self.redraw()

    @property
    def proposing(self) -> bool:
        """A proposal resolves or is reviewed."""
        return self._work is not None or self._review is not None

    def place_of_proposal(self) -> str:
        """Which one is shown, of how many."""
        review = self._review
        if review is None or not review.passage.proposals:
            return ""
        return f"proposal {review.passage.at + 1} of {len(review.passage.proposals)}"

    # -- runs -----------------------------------------------------------------------------------------------------

    def propose(self, spans: Iterable[Span], instruction: str | None) -> None:
        """Asks the model for spans, or for one if they touch."""
        self.ask(self.passages.of(spans), instruction)

    def ask(self, passage: Passage, instruction: str | None) -> None:
        """Asks the model for a passage. Without one yet, the question waits for it."""
        if self._work is not None:
            self.say("a proposal is being written: esc stops it", "warning")
            return
        if self.load_error:
            self.say(f"there is no model: {self.load_error}", "warning")
            return
        if self.backend.facts is None:
            self._waiting = passage, instruction
            self.say("there is no model yet: the passage is written as soon as it is loaded; esc withdraws it")
            return

        def begin() -> None:
            facts = self.backend.facts
            assert facts is not None
            self._work = proposals.infill_search(passage, self.backend, facts.settings, self.new_seed(), instruction)
            self._review = None
            self._began, self._pace = time.monotonic(), Pace(self.settings.screen.max_fps)
            self.editor.read_only = True
            self.bar.add_class("open")
            self.bar.focus()
            self._next()
            if passage.spans:
                self.call_after_refresh(self.editor.reveal, passage.spans[0][0])  # the bar may have gone over it

        if not self.guarded(begin) and self.proposing:
            self._back_to(passage)

    def model_is_there(self, facts: Facts) -> None:
        """Asks what waited for a model."""
        self.ask_what_waits()

    def ask_what_waits(self) -> None:
        """Asks what waited for a model, if there is one now and the person is not typing something else."""
        if self._waiting is not None and self.backend.facts is not None and not (self.proposing or self.is_asking):
            waiting, self._waiting = self._waiting, None
            self.ask(*waiting)

    def _next(self) -> None:
        work = self._work
        assert work is not None
        job = work.job()
        if job is None:
            self._found()
            return
        sink = self._pace.sink(self._tell, only_blocks=self.settings.screen.reduced_motion)
        run = self.backend.submit(job, sink)
        work.begin(run)
        run.ended.add_done_callback(lambda _: self._tell(RunEnded(run)))
        self.redraw()

    def _tell(self, message: FramesReady | BlockDone | RunEnded) -> None:
        if self.is_attached:
            self.post_message(message)

    @on(FramesReady)
    @on(BlockDone)
    def _frames_ready(self, message: FramesReady | BlockDone) -> None:
        if self._work is not None and message.run is self._work.run:
            self._pace.drawn()
            self.redraw()

    @on(RunEnded)
    def _run_ended(self, message: RunEnded) -> None:
        work, run = self._work, message.run
        if work is None or run is not work.run:
            return
        if error := run.ended.exception():
            self.say(explain(error), "error")
            self._back_to(work.passage)
            return
        if self.record_to is not None:
            record_to = self.record_to
            self.guarded(lambda: self._record(run, record_to))
        if self.guarded(work.end) and self.guarded(self._next):
            return
        self._back_to(work.passage)

    def _found(self) -> None:
        work = self._work
        assert work is not None
        found = work.proposals()
        work.passage.add(found)
        if not found:
            self.say("stopped before anything was written" if work.stopping else "nothing was proposed")
        self._back_to(work.passage)

    def _back_to(self, passage: Passage) -> None:
        """The end of a search: the review of what there is for the passage, or the text."""
        self._work = None
        if passage.proposals and passage.spans is not None:
            self.review(passage)
        else:
            self.close_proposal()

    def _record(self, run: RunHandle, path: Path) -> None:
        from dgtui.session import recording
        from dgtui.session.run_pack import occurring_ids

        facts = self.backend.facts
        if facts is None:
            return
        ids = occurring_ids(run.log).tolist()
        recording.save(
            path, run.log, pieces=dict(zip(ids, self.backend.pieces(ids), strict=True)),
            special_ids=facts.model.special_ids, fingerprint=facts.fingerprint, model=facts.name, stepper=facts.stepper,
            device=facts.device, versions=facts.versions,
        )  # fmt: skip

    # -- review ---------------------------------------------------------------------------------------------------

    def review(self, passage: Passage) -> None:
        """Shows the proposals of a passage."""
        self._review = Review(passage)
        self.editor.read_only = True
        self.bar.add_class("open")
        self.bar.focus()
        self.redraw(follow=True)

    def close_proposal(self) -> None:
        """Back to the text, as it is."""
        self._work = self._review = None
        self.bar.remove_class("open")
        self.editor.read_only = False
        self.editor.show_over(())
        self.editor.focus()
        self.draw_top()

    def redraw(self, *, follow: bool = False) -> None:
        """Draws what resolves, or is reviewed; `follow` brings the change that keys act on into sight."""
        if not self.is_mounted:
            return
        editor, work, review = self.editor, self._work, self._review
        if work is not None:
            brush = Brush(self._look, editor.rich_style)
            drawn = drawing.draft(work, self.backend.pieces, brush)
            spans = work.passage.spans or ()
            editor.show_over([Overlay(*span, runs) for span, runs in zip(spans, drawn, strict=False)])
            self.bar.say(drawing.progress(work, time.monotonic() - self._began))
        elif review is not None:
            editor.show_over(drawing.changes(review, self._look))
            self.bar.say(drawing.measures(review))
            if follow and review.current is not None:
                editor.reveal(review.current.anchor.start)
        self.draw_top()

    def on_descendant_focus(self) -> None:
        """A click into the text takes no keys away from the proposal."""
        if self.proposing and self.focused is self.editor:
            self.bar.focus()

    def _reviewing(self) -> Review | None:
        """The review; None, and a notice, while the proposal is still being written."""
        if self._review is None and self._work is not None:
            self.say("it is still being written: esc stops it")
        return self._review

    def action_accept(self, all: bool = False) -> None:
        """Puts a change, or all, into the text."""
        review = self._reviewing()
        if review is None:
            return
        if not review.open:
            self.say("no change: there is nothing to accept")
            return
        if self.guarded(review.accept_all if all else review.accept):
            self.edited()
            if spans := review.passage.spans:
                self.editor.select(*spans[0])
            self._go_on(review)

    def action_reject(self, all: bool = False) -> None:
        """Leaves the text as it is at a change, or at all."""
        review = self._reviewing()
        if review is not None:
            (review.reject_all if all else review.reject)()
            self._go_on(review)

    def _go_on(self, review: Review) -> None:
        """To what is still open; back to the text when nothing is."""
        if review.open:
            self.redraw(follow=True)
        else:
            self.close_proposal()

    def action_change(self, by: int) -> None:
        """To the next change, or the one before."""
        if (review := self._reviewing()) is not None:
            review.move(by)
            self.redraw(follow=True)

    def action_proposal(self, by: int) -> None:
        """To the next proposal, or the one before."""
        review = self._reviewing()
        if review is None:
            return
        if review.passage.cycle(by):
            self.review(review.passage)
        else:
            self.say("there is no other proposal: g asks for more")

    def action_again(self) -> None:
        """Asks for more proposals, under a new seed."""
        review = self._reviewing()
        if review is not None and (proposal := review.passage.proposal) is not None:
            self.ask(review.passage, proposal.instruction)

    def action_page(self, by: int) -> None:
        """Scrolls by a page."""
        editor = self.editor
        (editor.scroll_page_up if by < 0 else editor.scroll_page_down)(animate=False)

    def action_proposals(self) -> None:
        """Opens what was proposed for the text at the cursor."""
        editor = self.editor
        passage = self.passages.near(*(editor.selection or (editor.cursor, editor.cursor)))
        if self.proposing:
            return
        if passage is None:
            self.say("nothing was proposed for the text at the cursor")
        else:
            self.review(passage)
