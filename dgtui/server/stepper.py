"""Steppers for a vLLM server: its canvas can be watched, paused, pinned and forked like a local one.

`StepsStepper` asks for one denoising step per request and does everything else here: temperature, entropy, acceptance,
pins, suppression, noise and stopping. It gets the 20 most likely ids per position. The model runs without
self-conditioning. `BlocksStepper` lets the server sample whole canvases: one request per block.

Shapes: B candidates, C canvas positions, K = 20 ids that the server reports per position.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dgtui.diffusion import schedule
from dgtui.diffusion.events import Action, Flag, Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, SamplerSettings, Start
from dgtui.diffusion.stepper import CandidateStep, frozen
from dgtui.errors import ImageRefused
from dgtui.server.client import Client, ServerError
from dgtui.server.probe import Served

LOGPROBS: Final = 20
"""Most ids per position that vLLM reports."""
FOLLOWING: Final = 6
"""Number of pinned ids after a gap that are used to rank lengths."""
READING_PLACES: Final = 16
"""Length of the canvas that is used for ranking."""
UNSEEN: Final = -12.0
"""Log-probability assumed for an id that is not reported."""

Bools = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _Row:
    """A candidate of the running block."""

    canvas: Ids
    pinned: Bools
    held: Ids
    draft: Ids
    earlier: list[Ids]
    """The newest drafts, as many as the stability setting needs."""
    done: bool = False
    steps: int = 0


class StepsStepper:
    """One request per candidate and step. See `diffusion.stepper.Stepper` for the contract."""

    name = "vllm-steps"
    reads = False

    def __init__(self, client: Client, served: Served, stop_ids: frozenset[int]) -> None:
        self.client, self.served, self.stop_ids = client, served, stop_ids
        self.canvas_length, self.vocab_size = served.canvas_length, served.vocab_size
        self.max_context = served.max_context
        self._prefix: list[int] = []
        self._rng: dict[int, np.random.Generator] = {}
        self._rows: list[_Row] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the prefix; the server itself reuses what it shares with earlier ones."""
        if images:
            raise ImageRefused(
                "images cannot be sent to a model on a server", hint="load the checkpoint on this machine"
            )
        self.client.resume()
        self._prefix = list(ids)

    def interrupt(self) -> None:
        """Ends the requests that are waiting. Safe from any thread."""
        self.client.interrupt()

    def seed(self, candidate: int, seed: int) -> None:
        """Restarts a candidate's random stream."""
        self._rng[candidate] = np.random.Generator(np.random.PCG64(seed))

    def rng_state(self, candidate: int) -> bytes:
        """The state of a candidate's random stream."""
        return json.dumps(self._rng[candidate].bit_generator.state).encode()

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """Restores a state."""
        generator = np.random.PCG64()
        generator.state = json.loads(state)
        self._rng[candidate] = np.random.Generator(generator)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """Creates canvases of fresh noise, with the ids that their starts keep."""
        self._settings = settings
        self._suppressed = np.array(sorted(suppressed), dtype=np.int64)
        self._remaining = schedule.entry_step(starts[0].strength, settings.steps)
        self._rows = [self._lay_out(i, start) for i, start in enumerate(starts)]
        return [frozen(row.canvas, np.int32) for row in self._rows]

    def _noise(self, candidate: int) -> Ids:
        return self._rng[candidate].integers(self.vocab_size, size=self.canvas_length, dtype=np.int32)

    def _lay_out(self, candidate: int, start: Start) -> _Row:
        canvas = self._noise(candidate)
        pinned = np.zeros(self.canvas_length, dtype=bool)
        if start.ids is not None:
            pinned[list(start.pinned)] = True
            given = np.array(start.ids, dtype=np.int32)
            kept = pinned
            if start.noised:
                kept = np.ones_like(pinned)
            elif start.strength < 1:
                kept = pinned | (self._rng[candidate].random(self.canvas_length) >= start.strength)
            canvas = np.where(kept, given, canvas)
        return _Row(canvas, pinned, canvas.copy(), canvas.copy(), [], done=bool(pinned.all()))

    def amend(self, amendment: Amendment) -> int:
        """Pins or frees a position before the next step."""
        row, position = self._rows[amendment.candidate], amendment.position
        if amendment.action is Action.UNPIN:
            row.pinned[position] = False
            return int(row.canvas[position])
        token = int(row.draft[position]) if amendment.token is None else amendment.token
        row.pinned[position] = True
        row.held[position] = row.canvas[position] = row.draft[position] = token
        return token

    def step(self) -> list[CandidateStep]:
        """One denoising step of every candidate that is not done, all requests at once."""
        settings = self._settings
        temperature = schedule.temperature(self._remaining, settings.steps, settings.t_min, settings.t_max)
        self._remaining -= 1
        running = [i for i, row in enumerate(self._rows) if not row.done]
        answers = self._ask([self._request(self._rows[i], steps=1) for i in running])
        return [self._advance(i, answer, temperature) for i, answer in zip(running, answers, strict=True)]

    def _ask(self, bodies: Sequence[dict[str, Any]]) -> list[Any]:
        """The first choice of each response."""
        return [_checked(answer) for answer in self.client.post_all("/v1/completions", bodies)]

    def _request(self, row: _Row, steps: int) -> dict[str, Any]:
        return {
            "model": self.served.model,
            "prompt": self._prefix,
            "max_tokens": self.canvas_length,
            "ignore_eos": True,
            "logprobs": LOGPROBS,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": False,
            "vllm_xargs": {
                "diffusion_seed_canvas": row.canvas.tolist(),
                "diffusion_read_only": 1,
                "diffusion_max_steps": steps,
            },
        }

    def _advance(self, candidate: int, answer: Any, temperature: float) -> CandidateStep:
        """Sampling, acceptance and stopping of one candidate, from the most likely ids at each position."""
        row, settings, rng = self._rows[candidate], self._settings, self._rng[candidate]
        ids, log_probs = likeliest(answer, self.canvas_length, self.vocab_size)
        if len(self._suppressed):
            log_probs = np.where(np.isin(ids, self._suppressed), -np.inf, log_probs)
        scaled = log_probs / temperature
        best = scaled.max(-1, keepdims=True)
        lost = ~np.isfinite(best[:, 0])  # every reported id is suppressed: the position stays noise
        weights = np.exp(scaled - np.where(lost[:, None], 0.0, best))
        probs = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30)
        entropy = -(probs * np.log(np.maximum(probs, 1e-30))).sum(-1)
        entropy = np.where(lost, np.log(self.vocab_size), entropy)
        places = np.arange(self.canvas_length)
        fresh = self._noise(candidate)
        if len(self._suppressed):
            fresh = np.where(np.isin(fresh, self._suppressed), _allowed(self._suppressed, self.vocab_size), fresh)
        choice = (probs.cumsum(-1) < rng.random((self.canvas_length, 1))).sum(-1).clip(max=ids.shape[-1] - 1)
        sample = np.where(lost, fresh, ids[places, choice])
        draft = np.where(lost, fresh, ids[places, scaled.argmax(-1)])
        entropy = np.where(row.pinned, 0.0, entropy).astype(np.float32)
        sample, draft = np.where(row.pinned, row.held, sample), np.where(row.pinned, row.held, draft)
        order = np.argsort(entropy, kind="stable")
        below = entropy[order].cumsum() - entropy[order] <= settings.entropy_bound
        accepted = np.zeros(self.canvas_length, dtype=bool)
        accepted[order[below]] = True
        return self._finish(candidate, draft, np.where(accepted, sample, fresh), accepted, entropy, ids, probs,
                            temperature)  # fmt: skip

    def _finish(
        self, candidate: int, draft: Ids, canvas: Ids, accepted: Bools, entropy: Floats, ids: Ids,
        probs: npt.NDArray[np.float64], temperature: float, done: bool | None = None,
    ) -> CandidateStep:  # fmt: skip
        """Applies and reports a step's results."""
        row, settings = self._rows[candidate], self._settings
        row.canvas = np.where(row.pinned, row.held, canvas).astype(np.int32)
        changed = draft != row.draft if row.steps else np.zeros(self.canvas_length, dtype=bool)
        mean = float(entropy.sum() / max(1, int((~row.pinned).sum())))
        if done is None:
            stable = len(row.earlier) >= settings.stability and all((e == draft).all() for e in row.earlier)
            done = settings.stability >= 0 and stable and mean < settings.confidence
        if settings.stability > 0:
            row.earlier = [*row.earlier, draft][-settings.stability :]
        row.draft, row.done, row.steps = draft.astype(np.int32), done, row.steps + 1
        flags = (
            row.pinned * int(Flag.PINNED)
            + (accepted & ~row.pinned) * int(Flag.ACCEPTED)
            + (~accepted & ~row.pinned) * int(Flag.RENOISED)
            + changed * int(Flag.CHANGED)
        )
        top = np.argsort(-probs, axis=-1, kind="stable")[:, : settings.top_k]
        return CandidateStep(
            candidate=candidate,
            ids=frozen(row.draft, np.int32),
            canvas=frozen(row.canvas, np.int32),
            entropy=frozen(entropy, np.float32),
            flags=frozen(flags, np.uint8),
            top_ids=frozen(np.take_along_axis(ids, top, -1), np.int32),
            top_probs=frozen(np.take_along_axis(probs, top, -1), np.float32),
            mean_entropy=mean,
            temperature=temperature,
            done=done,
        )

    def commit(self, ids: Ids) -> None:
        """Appends a finished canvas to the prefix."""
        self._prefix += ids.tolist()

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """Log-probabilities for ranking lengths: 0 except at the pinned ids after each gap.

        A server does not give left-to-right likelihoods. Those of the first pinned ids after a gap, predicted from
        noise after all the text before them, rank lengths equally well.
        """
        return [self._follow(row, np.asarray(ids)) for row, ids in zip(self._rows, canvases, strict=True)]

    def _follow(self, row: _Row, ids: Ids) -> Floats:
        found = np.zeros(self.canvas_length, dtype=np.float32)
        ends = [i for i in range(1, self.canvas_length) if row.pinned[i] and not row.pinned[i - 1]]
        bodies = []
        for end in ends:
            noise = np.random.Generator(np.random.PCG64(end)).integers(self.vocab_size, size=READING_PLACES)
            body = self._request(row, steps=1)
            body |= {"prompt": [*self._prefix, *ids[:end].tolist()], "max_tokens": READING_PLACES}
            body["vllm_xargs"] = {
                "diffusion_seed_canvas": noise.tolist(),
                "diffusion_canvas_length": READING_PLACES,
                "diffusion_read_only": 1,
                "diffusion_max_steps": 1,
            }
            bodies.append(body)
        for end, answer in zip(ends, self._ask(bodies), strict=True):
            seen, log_probs = likeliest(answer, READING_PLACES, self.vocab_size)
            for k, wanted in enumerate(ids[end : end + FOLLOWING].tolist()):
                where = np.flatnonzero(seen[k] == wanted)
                found[end + k] += float(log_probs[k, where[0]]) if len(where) else UNSEEN
        found.flags.writeable = False
        return found

    def release(self) -> None:
        """Frees the data of the run."""
        self._prefix, self._rows = [], []


class BlocksStepper(StepsStepper):
    """The server samples whole canvases with its own settings: one step per block. Its noise is not repeatable."""

    name = "vllm-blocks (not repeatable)"

    def step(self) -> list[CandidateStep]:
        """One request per candidate; each returns a finished canvas."""
        running = [i for i, row in enumerate(self._rows) if not row.done]
        bodies = []
        for i in running:
            row = self._rows[i]
            body = self._request(row, steps=self._settings.steps)
            if row.pinned.any():
                body["vllm_xargs"]["diffusion_pinned"] = np.flatnonzero(row.pinned).tolist()
            bodies.append(body)
        return [self._whole(i, answer) for i, answer in zip(running, self._ask(bodies), strict=True)]

    def _whole(self, candidate: int, answer: Any) -> CandidateStep:
        row = self._rows[candidate]
        ids, log_probs = likeliest(answer, self.canvas_length, self.vocab_size)
        probs = np.exp(log_probs)
        entropy = np.where(row.pinned, 0.0, -(probs * np.where(probs > 0, log_probs, 0.0)).sum(-1)).astype(np.float32)
        draft = np.where(row.pinned, row.held, token_ids(answer, self.canvas_length, self.vocab_size))
        everywhere = np.ones(self.canvas_length, dtype=bool)
        return self._finish(candidate, draft, draft, everywhere, entropy, ids, probs, 1.0, done=True)


class TextStepper(BlocksStepper):
    """Blocks without log-probabilities, which cost more than the steps of a small model. Entropies are NaN."""

    name = "vllm-text (not repeatable)"

    def _request(self, row: _Row, steps: int) -> dict[str, Any]:
        body = super()._request(row, steps)
        del body["logprobs"]
        return body

    def _whole(self, candidate: int, answer: Any) -> CandidateStep:
        row = self._rows[candidate]
        ids = token_ids(answer, self.canvas_length, self.vocab_size)
        draft = np.where(row.pinned, row.held, ids)
        unknown = np.where(row.pinned, 0.0, np.nan).astype(np.float32)
        everywhere, certain = np.ones(self.canvas_length, dtype=bool), np.ones((self.canvas_length, 1))
        return self._finish(candidate, draft, draft, everywhere, unknown, draft[:, None], certain, 1.0, done=True)


def _checked(answer: Any) -> Any:
    """The first choice of a response. Raises `ServerError` if it is not valid."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _nonsense("no choices")
    return choices[0]


def token_ids(choice: Any, length: int, vocab_size: int) -> Ids:
    """The sampled ids (length,). Raises `ServerError`."""
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or len(ids) != length:
        raise _nonsense(f"not {length} token ids")
    if not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise _nonsense("ids outside the vocabulary")
    return np.array(ids, dtype=np.int32)


def likeliest(choice: Any, length: int, vocab_size: int) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The reported ids (length, K) and their log-probabilities in nats, -inf if fewer than K were reported.

    Raises `ServerError` for a response of another shape.
    """
    rows = (choice.get("logprobs") or {}).get("top_logprobs")
    if not isinstance(rows, list) or len(rows) != length:
        raise _nonsense(f"no log-probabilities for {length} positions")
    ids = np.zeros((length, LOGPROBS + 1), dtype=np.int32)
    log_probs = np.full((length, LOGPROBS + 1), -np.inf)
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not 0 < len(row) <= LOGPROBS + 1:
            raise _nonsense(f"nothing at position {place}")
        for k, (text, value) in enumerate(row.items()):
            digits = text.removeprefix("token_id:")
            if (
                not digits.isdecimal()
                or len(digits) > 9
                or int(digits) >= vocab_size
                or not isinstance(value, int | float)
            ):
                raise _nonsense(f"{text[:40]!r} at position {place}")
            ids[place, k], log_probs[place, k] = int(digits), value
    if np.isnan(log_probs).any():
        raise _nonsense("log-probabilities that are not numbers")
    return ids, np.minimum(log_probs, 0.0)


def _nonsense(what: str) -> ServerError:
    return ServerError(f"the server's response is not valid: {what}", hint="use vLLM 0.32 or newer")


def _allowed(suppressed: npt.NDArray[np.int64], vocab_size: int) -> int:
    """An id that is allowed."""
    taken = set(suppressed.tolist())
    return next(i for i in range(vocab_size) if i not in taken)
