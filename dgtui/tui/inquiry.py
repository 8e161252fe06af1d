"""What the canvas asks of the model about a finished text: the alternatives of a token, and what is doubted.

The answers belong to a version of the reply and are kept with it. Only one question is asked at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dgtui.backend import RunHandle
from dgtui.diffusion.events import Flag
from dgtui.diffusion.job import Job
from dgtui.steering.doubts import DOUBTED, DRAWS, Doubts
from dgtui.steering.drafts import Draft, Version
from dgtui.steering.search import Search
from dgtui.tui.frames import View


class Inquiry:
    """The question that is being asked, if there is one, and the layer that shows the answers.

    Args:
        submit: Hands a job to the model. `ended` is to be called after the run.
    """

    def __init__(self, submit: Callable[[Job], RunHandle]) -> None:
        self._submit = submit
        self._search: Search[Doubts] | None = None
        self._asked: tuple[Version, int, Callable[[], None]] | None = None
        "the version and the block that is asked about, and what to do with the answer"
        self.shown = False
        "the canvas is coloured by what is doubted"

    @property
    def running(self) -> bool:
        """The model is being asked."""
        return self._search is not None

    def ask(self, draft: Draft, block: int, places: Sequence[int], seed: int, then: Callable[[], None]) -> None:
        """Asks about places of the current version that were not asked about before, and then calls `then`."""
        version = draft.version
        known = version.doubts.get(block, {})
        missing = [place for place in places if place not in known]
        self.stop()
        if not missing:
            then()
            return
        plan = draft.doubts(block, missing, seed, DRAWS if len(places) == 1 else 1)
        self._search, self._asked = Search(plan, self._submit), (version, block, then)
        self._search.start()

    def asks(self, run: RunHandle) -> bool:
        """Whether a run belongs to the question that is being asked."""
        return self._search is not None and self._search.run is run

    def ended(self, run: RunHandle) -> None:
        """Takes in a run of this question, and asks on. Raises what the run raised."""
        search, asked = self._search, self._asked
        assert search is not None and asked is not None
        version, block, then = asked
        self._search = None
        going = search.advance()
        version.doubts.setdefault(block, {}).update(search.plan.found)
        if going:
            self._search = search
        elif not search.stopping:
            then()

    def stop(self) -> bool:
        """Stops asking. False if nothing is asked."""
        if self._search is None:
            return False
        self._search.stop()
        self._search = None
        return True

    def doubts(self, draft: Draft, block: int) -> str:
        """How many tokens are doubted, in words."""
        nats = draft.doubted(block)
        return f"{sum(value > DOUBTED for value in nats.values())} of {len(nats)} tokens doubted"

    def layer(self, view: View, draft: Draft, block: int) -> View:
        """A view coloured and underlined by how much the model doubts each token."""
        import numpy as np

        entropy, flags = np.zeros_like(view.entropy), view.flags & np.uint8(Flag.PINNED)
        for place, nats in draft.doubted(block).items():
            entropy[place] = nats
            flags[place] |= np.uint8(Flag.CHANGED if nats > DOUBTED else 0)
        return replace(view, entropy=entropy, flags=flags, glow=None)
