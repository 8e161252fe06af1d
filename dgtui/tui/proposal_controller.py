"""Proposals for spans of a file: runs that resolve in the text, and the review of their results.

While a proposal resolves or is reviewed, the text is read-only and the bar below it has the focus. Only accepting
changes the text. Every proposal is kept; `open_at_cursor` shows it again.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.job import Job
from dgtui.steering.infill import Infill
from dgtui.steering.proposals import InfillSearch, Passage, Passages, Review, Span
from dgtui.tui.messages import explain
from dgtui.tui.pace import Pace
from dgtui.tui.screens.base import BaseScreen
from dgtui.tui.share import record
from dgtui.tui.widgets import review as drawing
from dgtui.tui.widgets.brush import Brush
from dgtui.tui.widgets.editor import Editor, Overlay
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.review import ReviewBar


class ProposalController:
    """The current search or review, and all passages that were sent to the model.

    Args:
        screen: It calls `frames_ready` and `run_ended` with the runs of its messages.
        is_asking: Whether the user is typing an answer, which must not lose the focus.
        seeds: Draws the seed of each search.
        record_to: The recording that each run is written to when it ends.
    """

    def __init__(
        self,
        screen: BaseScreen,
        backend: Backend,
        editor: Editor,
        bar: ReviewBar,
        loading: Loading,
        is_asking: Callable[[], bool],
        seeds: Callable[[], int],
        record_to: Path | None,
    ) -> None:
        self._screen, self._backend, self._editor, self._bar, self._loading = screen, backend, editor, bar, loading
        self._is_asking, self._seeds, self._record_to = is_asking, seeds, record_to
        self._motion = screen.settings.screen
        self._pace = Pace(self._motion.max_fps)
        self._began = 0.0
        self._waiting: tuple[Passage, str | None] | None = None
        "requested before a model was loaded"
        self.passages = Passages(editor.buffer)
        self.search: InfillSearch | None = None
        self.review: Review | None = None

    @property
    def active(self) -> bool:
        """Whether a proposal is being written or reviewed."""
        return self.search is not None or self.review is not None

    @property
    def position(self) -> str:
        """The number of the reviewed proposal, and how many there are."""
        passage = self.review.passage if self.review else None
        return f"proposal {passage.at + 1} of {len(passage.proposals)}" if passage and passage.proposals else ""

    # -- the search -------------------------------------------------------------------------------------------------

    def propose(self, spans: Iterable[Span], instruction: str | None) -> None:
        """Asks the model for new text in spans; touching spans are merged."""
        self.ask(self.passages.of(spans), instruction)

    def ask(self, passage: Passage, instruction: str | None) -> None:
        """Asks the model for proposals. Before a model is loaded, the request waits."""
        if self.search is not None:
            self._screen.notify("a proposal is being written: press esc to stop it", severity="warning")
        elif self._loading.error:
            self._screen.notify(f"there is no model: {self._loading.error}", severity="warning")
        elif self._backend.facts is None:
            self._waiting = passage, instruction
            self._screen.notify("the request waits until the model is loaded: press esc to withdraw it")
        elif not self._screen.guarded(lambda: self._begin(passage, instruction)) and self.active:
            self._end_search(passage)

    def ask_waiting(self) -> None:
        """Sends the waiting request, if a model is loaded and the user is not typing something else."""
        if self._waiting is not None and self._backend.facts is not None and not (self.active or self._is_asking()):
            waiting, self._waiting = self._waiting, None
            self.ask(*waiting)

    def _begin(self, passage: Passage, instruction: str | None) -> None:
        facts = self._backend.facts
        assert facts is not None
        infill = Infill(
            passage.parts(), self._backend, facts.model, facts.settings, self._seeds(), instruction=instruction
        )
        self.search = InfillSearch(passage, infill, self._submit)
        self.review = None
        self._began, self._pace = time.monotonic(), Pace(self._motion.max_fps)
        self._take_keys()
        self.search.start()
        self.redraw()
        if passage.spans:  # after the bar has appeared, because it may cover them
            self._screen.call_after_refresh(self._editor.reveal, passage.spans[0][0])

    def _submit(self, job: Job) -> RunHandle:
        return self._pace.submit(self._backend, job, self._screen, only_blocks=self._motion.reduced_motion)

    def frames_ready(self, run: RunHandle) -> None:
        """A run has new frames."""
        if self.search is not None and run is self.search.run:
            self._pace.drawn()
            self.redraw()

    def keep_recording(self) -> None:
        """Writes the run of a search, finished or not, to the recording that was requested at the start."""
        if self.search is not None and self.search.run is not None:
            self._record(self.search.run)

    def _record(self, run: RunHandle) -> None:
        facts, record_to = self._backend.facts, self._record_to
        if record_to is not None and facts is not None and run.log.frames():
            self._screen.guarded(lambda: record(record_to, run, facts, self._backend))

    def run_ended(self, run: RunHandle) -> None:
        """A run has ended: starts the next one of the search, or the review."""
        search = self.search
        if search is None or run is not search.run:
            return
        if error := run.ended.exception():
            self._screen.notify(explain(error), severity="error")
            self._end_search(search.passage)
            return
        self._record(run)

        def advance() -> None:
            search.advance()

        if not self._screen.guarded(advance):
            self._end_search(search.passage)
        elif not search.done:
            self.redraw()
        else:
            proposals = search.plan.proposals
            search.passage.add(proposals)
            if not proposals:
                stopped = "stopped before anything was written"
                self._screen.notify(stopped if search.stopping else "the model made no proposal")
            self._end_search(search.passage)

    def _end_search(self, passage: Passage) -> None:
        """Opens the review of the passage's proposals, or returns to the text if there are none."""
        self.search = None
        if passage.proposals and passage.spans is not None:
            self.open(passage)
        else:
            self.close()

    def stop(self) -> None:
        """Stops the run. Its text so far is kept."""
        if self.search is not None:
            self.search.stop()

    def step_back(self) -> bool:
        """Does the first that applies: stops the run, closes the review, withdraws the waiting request. Else False."""
        if self.search is not None:
            self.stop()
            self.redraw()
        elif self.review is not None:
            self.close()
        elif self._waiting is not None:
            self._waiting = None
            self._screen.notify("the request to the model is withdrawn")
        else:
            return False
        return True

    # -- the review -------------------------------------------------------------------------------------------------

    def open(self, passage: Passage) -> None:
        """Reviews the proposals of a passage."""
        self.review = Review(passage)
        self._take_keys()
        self.redraw(follow=True)

    def open_at_cursor(self) -> None:
        """Reviews the proposals for the text at the cursor."""
        if self.active:
            return
        passage = self.passages.near(*(self._editor.selection or (self._editor.cursor, self._editor.cursor)))
        if passage is None:
            self._screen.notify("there are no proposals for the text at the cursor")
        else:
            self.open(passage)

    def _take_keys(self) -> None:
        self._editor.read_only = True
        self._bar.add_class("open")
        self._bar.focus()

    def focus(self) -> None:
        """Gives the focus to the proposal, or to the text if there is none."""
        (self._bar if self.active else self._editor).focus()

    def close(self) -> None:
        """Returns to the text without changing it."""
        self.search = self.review = None
        self._bar.remove_class("open")
        self._editor.read_only = False
        self._editor.show_over(())
        self._editor.focus()
        self._screen.draw_top()

    def redraw(self, *, follow: bool = False) -> None:
        """Draws the search or the review; `follow` scrolls to the change that keys act on."""
        if not self._screen.is_mounted:
            return
        editor, look = self._editor, self._screen.look
        if (search := self.search) is not None:
            drawn = drawing.draft(search, self._backend.pieces, Brush(look, editor.rich_style))
            spans = search.passage.spans or ()
            editor.show_over([Overlay(*span, runs) for span, runs in zip(spans, drawn, strict=False)])
            self._bar.say(drawing.progress(search, time.monotonic() - self._began))
        elif (review := self.review) is not None:
            editor.show_over(drawing.changes(review, look))
            self._bar.say(drawing.measures(review))
            if follow and review.current is not None:
                editor.reveal(review.current.anchor.start)
        self._screen.draw_top()

    def _reviewed(self) -> Review | None:
        """The review; None, and a notice, while the proposal is still being written."""
        if self.review is None and self.search is not None:
            self._screen.notify("the proposal is still being written: press esc to stop it")
        return self.review

    def accept(self, all: bool = False) -> None:
        """Accepts a change, or all changes."""
        if (review := self._reviewed()) is None:
            return
        if not review.open:
            self._screen.notify("no change: there is nothing to accept")
        elif self._screen.guarded(review.accept_all if all else review.accept):
            self._editor.sync()
            if spans := review.passage.spans:
                self._editor.select(*spans[0])
            self._continue(review)

    def reject(self, all: bool = False) -> None:
        """Rejects a change, or all changes."""
        if (review := self._reviewed()) is not None:
            (review.reject_all if all else review.reject)()
            self._continue(review)

    def _continue(self, review: Review) -> None:
        """Moves to the next open change; returns to the text after the last one."""
        if review.open:
            self.redraw(follow=True)
        else:
            self.close()

    def change(self, by: int) -> None:
        """Moves to the next or previous change."""
        if (review := self._reviewed()) is not None:
            review.move(by)
            self.redraw(follow=True)

    def proposal(self, by: int) -> None:
        """Moves to the next or previous proposal."""
        if (review := self._reviewed()) is None:
            return
        if review.passage.cycle(by):
            self.open(review.passage)
        else:
            self._screen.notify("there is no other proposal: press g for more")

    def again(self) -> None:
        """Asks for more proposals with a new seed."""
        review = self._reviewed()
        if review is not None and (proposal := review.passage.proposal) is not None:
            self.ask(review.passage, proposal.instruction)

    def page(self, by: int) -> None:
        """Scrolls by a page."""
        (self._editor.scroll_page_up if by < 0 else self._editor.scroll_page_down)(animate=False)
