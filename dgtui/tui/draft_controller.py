"""All ways to change the draft of a reply, and to ask the model about it. Independent of the screen.

Each change turns the selection into a job or an amendment. An impossible action raises `Refused` (or `BadJob`, if
settings contradict each other) and changes nothing. A text that a method returns is a notice for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dgtui.diffusion.events import Action
from dgtui.diffusion.job import Amendment
from dgtui.steering.drafts import Kind, Refused, Version
from dgtui.text import decode_utf8
from dgtui.tui.draft_runs import DraftRuns
from dgtui.tui.fixed import refuse_fixed
from dgtui.tui.frames import View
from dgtui.tui.messages import tokens
from dgtui.tui.typed import Keep, Shown, Typed

Choice = tuple[int, bytes, float]
"""A token that could stand at a position: its id, its bytes, its probability."""


class DraftController(DraftRuns):
    """What a person does to the text of the draft."""

    def change_strength(self, by: float) -> str:
        """Changes the share of the old text that a re-diffusion renoises."""
        self.strength = max(0.1, min(1.0, round(self.strength + by, 1)))
        return (
            f"strength {self.strength:.0%}: {'starts from noise' if self.strength == 1 else 'keeps part of the text'}"
        )

    def rediffuse(self, *, other: bool = False) -> None:
        """Rewrites the selection; everything else is pinned. `other`: without the words that were there."""
        (draft, version), span, without = self._now(), self._span, frozenset[int]()
        if other:
            tried = [*draft.tried(self.block, span)]
            words = zip(tried, self._backend.pieces(tried), strict=True)
            without = frozenset(token for token, piece in words if any(map(str.isalnum, decode_utf8(piece))))
            if not without:
                raise Refused("there is no word here to replace")
            if not draft.facts.model.stop_ids.intersection(tried):  # the reply does not end in the selection
                without |= draft.facts.model.special_ids | draft.facts.model.stop_ids
        job = draft.rediffuse(self.block, span, self.strength, self._seeds(), without)
        again = version.kind == "re-diffuse" and version.span == span and not version.running
        self.run("re-diffuse", job, span=span, pins=version.pins, beside=again)

    def polish(self) -> None:
        """Renoises the tokens that the model doubts most. It is asked first."""
        self._ask_all(self._polish)

    def _polish(self) -> None:
        draft, version = self._now()
        job, places = draft.polish(self.block, self._seeds())
        self.run("polish", job, span=(min(places), max(places) + 1), pins=version.pins)

    def doubts(self) -> None:
        """Shows what the model doubts, or shows it no longer. It is asked once."""
        self.inquiry.shown = not self.inquiry.shown
        if self.inquiry.shown:
            self._ask_all(lambda: None)

    def _ask_all(self, then: Callable[[], None]) -> None:
        draft, block = self._now()[0], self.block
        refuse_fixed(self._backend)
        self._refuse_while_running()
        self.inquiry.ask(draft, block, range(draft.end(block)), self._seeds(), then)

    def _refuse_while_running(self) -> None:
        if self.running:
            raise Refused("the reply is still being written", hint="press esc to stop it")

    def gap(self, length: str = "") -> None:
        """Opens a gap of some tokens at the cursor and fills it; without a length, several are tried."""
        if length and not (length.isascii() and length.isdigit() and len(length) < 7 and int(length)):
            raise Refused("the length of a gap must be a number of tokens, for example 8")
        draft, at = self._now()[0], self._pointer().cursor
        self.search("gap", draft.gap(self.block, at, int(length) if length else None, self._seeds()), at)

    def pin(self) -> str:
        """Pins the selection, or unpins it if all of it is pinned; during a run, from the next step on."""
        self.refuse_past()
        self.refuse_while_searching()
        (draft, version), block = self._now(), self.block
        places, pinned = draft.toggle_pins(block, self._span)
        if version.running and self.frame is not None:
            ids = {place: int(self.frame.ids[place]) if pinned else None for place in places}
            self._amend(version, block, Action.PIN if pinned else Action.UNPIN, ids)
        return f"{tokens(len(places))} {'pinned' if pinned else 'unpinned'}"

    def typing(self, view: View, block: int) -> Typed:
        """A text that is typed in place at the cursor of a block. The run waits for it."""
        refuse_fixed(self._backend)
        self.refuse_past()
        self._refuse_elsewhere(block)
        version, at, control = self._now()[1], self._pointer().cursor, self._now()[1].run.control
        waiting = version.running and not control.paused
        if waiting:
            control.pause()
        shown, keep, end = (self._typed_in_gap if version.search else self._typed_over)(view, block, at)
        leave = control.resume if waiting else lambda: None
        return Typed(view, at, shown, keep, self._backend.encode, end - at, leave, waiting)

    def _typed_over(self, view: View, block: int, at: int) -> tuple[Shown, Keep, int]:
        """Text that replaces what is at the cursor, up to the end of the canvas."""
        version, size = self.version, self._now()[0].facts.model.canvas_length

        def shown(text: str) -> str:
            apart = view.pieces[at : at + 1] and view.pieces[at].startswith(b" ") and not text.startswith(" ")
            return f" {text}" if apart else text

        def keep(text: str) -> str | None:
            self._refuse_elsewhere(block, version)
            ids = self._backend.encode(shown(text))
            if at + len(ids) > size:
                raise Refused(f"{tokens(len(ids))} do not fit after position {at}")
            return self.hold("type", dict(enumerate(ids, start=at)))

        return shown, keep, size

    def _typed_in_gap(self, view: View, block: int, at: int) -> tuple[Shown, Keep, int]:
        """Text in a gap whose length is searched: it divides the gap and stands in every length."""
        version, search = self._now()[1], self._now()[1].search
        assert search is not None
        gaps = search.plan.gaps(version.candidate)
        edges = [edge for gap in gaps for edge in (gap.start, gap.stop)]

        def shown(text: str) -> str:
            apart = at and text[:1].isalnum() and not view.pieces[at - 1].endswith((b" ", b"\n"))
            return f" {text}" if apart else text

        def keep(text: str) -> None:
            self._refuse_elsewhere(block, version)
            ids = self._backend.encode(shown(text))
            plan = search.plan.typed(at, ids, gaps, self._seeds())
            if plan.canvas.room < 1:
                raise Refused(f"{tokens(len(ids))} do not fit here")
            self.search(version.kind, plan, version.span[0] if version.span else 0, beside=True)

        return shown, keep, next((edge for edge in edges if edge > at), len(view.pieces))

    def _refuse_elsewhere(self, block: int, version: Version | None = None) -> None:
        if self.block != block or (version is not None and self.version is not version):
            raise Refused("the reply has moved on to another block", hint="press space to pause it")

    def hold(self, kind: Kind, held: Mapping[int, int]) -> str | None:
        """Pins token ids by position: during a run from the next step on, else with a run that rewrites the rest."""
        self.refuse_while_searching()
        (draft, version), block = self._now(), self.block
        if not version.running:
            job, pins = draft.settle(block, held, self._seeds())
            self.run(kind, job, pins=version.pins | {block: pins})
            return None
        self._amend(version, block, Action.PIN, held)
        version.pins[block] = draft.user_pins(block) | frozenset(held)
        return f"{tokens(len(held))} pinned from the next step on"

    @staticmethod
    def _amend(version: Version, block: int, action: Action, ids: Mapping[int, int | None]) -> None:
        for place, token in ids.items():
            version.run.control.amend(Amendment(place, action, token, version.candidate, block))

    def alternatives(self, show: Callable[[str, list[Choice], dict[int, str], int], None]) -> None:
        """Calls `show` with a title, the most probable tokens at the cursor, names for ids without text, and the id
        that is there. The model is asked what it would write there; while it writes, the newest step says that."""
        refuse_fixed(self._backend)
        (draft, version), at, block = self._now(), self._pointer().cursor, self.block
        model = draft.facts.model
        names = dict.fromkeys(model.special_ids, "(markup)") | {model.turn_end_id: "(end)"}
        if self.running:
            frame = self._frame("there are no alternatives before the first step")
            ids = frame.top_ids[at].tolist()
            choices = [*zip(ids, self._backend.pieces(ids), frame.top_probs[at].tolist(), strict=True)]
            shown = [choice for choice in choices if choice[0] not in model.special_ids - model.stop_ids]
            show("alternatives in this step", shown, names, int(frame.ids[at]))
            return

        def answered() -> None:
            ids = version.ids(block)
            if self.version is version and ids is not None:
                doubt = version.doubts[block][at]
                choices = [*zip(doubt.ids, self._backend.pieces(doubt.ids), doubt.probs, strict=True)]
                show("alternatives", choices, names, int(ids[at]))

        self.inquiry.ask(draft, block, [at], self._seeds(), answered)
