"""Models whose canvas cannot be steered, because a server sends their text only."""

from dgtui.backend import Backend
from dgtui.steering.drafts import Refused

STEERS = (
    "rediffuse", "something_else", "strength", "polish", "doubts", "fork", "gap", "pin", "type_here", "alternatives",
    "proposal",
)  # fmt: skip
"""Actions that need a canvas with tokens that can be held."""


def refusal(backend: Backend, action: str = "pin") -> str:
    """Why the model can never do an action; empty if it can."""
    return backend.facts.fixed if backend.facts is not None and action in STEERS else ""


def refuse_fixed(backend: Backend) -> None:
    """Raises `Refused` if nothing on the canvas can be held."""
    if why := refusal(backend):
        raise Refused(why, hint="the canvas can be watched, stopped and accepted")
