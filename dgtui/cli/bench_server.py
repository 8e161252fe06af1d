"""`dgtui bench --server`: measures a step and a whole reply on a server."""

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dgtui.message import Message

if TYPE_CHECKING:
    from dgtui.server.served import ServedModel


def measure(
    served: "ServedModel", prompt: str, progress: Callable[[str], None], *, pairs: int, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Medians over `pairs` replies per mode, alternating. Times in milliseconds, from request to response."""
    from dgtui.diffusion import engine
    from dgtui.diffusion.events import Finished
    from dgtui.diffusion.job import Job
    from dgtui.server.stepper import BlocksStepper, StepsStepper

    ids = tuple(served.tokenizer.chat([Message("user", prompt)]))
    kinds = {"steps": StepsStepper, "blocks": BlocksStepper}
    found: dict[str, list[tuple[float, int, int]]] = {mode: [] for mode in kinds}
    for pair in range(pairs):
        for mode, kind in kinds.items():
            progress(f"reply {pair + 1} of {pairs}: {mode}")
            job = Job("bench", ids, seed + pair, served.info.canvas_length, served.settings)
            began = time.perf_counter()
            *_, last = engine.run(kind(served.client, served.served, served.info.stop_ids), job)
            assert isinstance(last, Finished)
            found[mode].append((time.perf_counter() - began, sum(last.steps), len(last.token_ids[0])))
    return {
        "model": served.name,
        "server": served.held,
        "pairs": pairs,
        "step_ms": round(statistics.median(wall / steps for wall, steps, _ in found["steps"]) * 1000, 1),
        **{
            mode: {
                "reply_ms": round(statistics.median(wall for wall, _, _ in rows) * 1000, 1),
                "requests": statistics.median(steps for _, steps, _ in rows),
                "tokens_per_second": round(statistics.median(tokens / wall for wall, _, tokens in rows), 1),
            }
            for mode, rows in found.items()
        },
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The result of `measure` as text."""
    return [
        (found["model"], f"{found['server']} · {found['pairs']} replies per mode"),
        ("denoising step, request to response", f"{found['step_ms']:.0f} ms"),
        *(
            (
                f"reply in mode {mode}",
                f"{found[mode]['reply_ms']:.0f} ms, {found[mode]['tokens_per_second']:.0f} tokens per second",
            )
            for mode in ("steps", "blocks")
        ),
    ]
