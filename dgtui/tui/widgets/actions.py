"""Methods of the canvas panel as actions: what cannot be done becomes a notice."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from dgtui.diffusion.settings import BadJob
from dgtui.errors import DgtuiError
from dgtui.tui.draft_controller import DraftController
from dgtui.tui.messages import explain

if TYPE_CHECKING:
    from dgtui.tui.widgets.canvas_panel import CanvasPanel

P = ParamSpec("P")


def action(
    method: Callable[Concatenate[CanvasPanel, P], str | None],
) -> Callable[Concatenate[CanvasPanel, P], Any]:
    """An action of the panel. A refusal, or the text that it returns, becomes a notice.

    The action returns False if it was refused."""

    @wraps(method)
    def act(self: CanvasPanel, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            if notice := method(self, *args, **kwargs):
                self.notify(notice)
        except (DgtuiError, BadJob) as refused:
            self.notify(explain(refused), severity="warning")
            return False
        finally:
            self.repaint()
        return True

    return act


def steers(
    method: Callable[Concatenate[DraftController, P], str | None],
) -> Callable[Concatenate[CanvasPanel, P], Any]:
    """An action of the panel that is a method of its controller."""

    @wraps(method)
    def act(self: CanvasPanel, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        return method(self.steering, *args, **kwargs)

    return action(act)
