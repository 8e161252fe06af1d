"""The reference stepper in PyTorch: logits from a `Denoiser`, then `sampler`. Works on every device.

Shapes: B candidates, R candidates still running, C canvas positions, V vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from dgtui.diffusion import sampler, schedule
from dgtui.diffusion.canvas import Canvas
from dgtui.diffusion.events import Action, Flag, Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, SamplerSettings, Start
from dgtui.diffusion.stepper import CandidateStep, frozen
from dgtui.diffusion.stopping import StableAndConfident


class Denoiser(Protocol):
    """A model: an encoder that keeps a prefix, and a decoder that sees the prefix and a whole canvas."""

    canvas_length: int
    vocab_size: int
    device: torch.device
    stop_ids: frozenset[int]
    max_context: int
    "most ids of prefix and canvas together"
    conditioning_dtype: torch.dtype
    "the type of the logits of the last step that it takes"

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the prefix; reuses what it shares with the current one.

        Raises `BadJob` unless the ids have positions for exactly these images, in this order.
        """

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids and the last step's scaled logits (B, C, V), None in the first step → logits (B, C, V) in fp32."""

    def commit(self, ids: Sequence[int]) -> None:
        """Appends a finished canvas to the prefix."""

    def release(self) -> None:
        """Frees as much memory as it can. The prefix is empty afterwards."""

    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        """(B, C) ids → (B, C) log-probabilities in nats, in fp32, of each id given the prefix and the ids to its left.

        They are the encoder's predictions; the first is 0. The prefix does not change.
        """


class ReferenceStepper:
    """Logits from a `Denoiser`, everything else in plain PyTorch. Gives the same tokens as transformers' `generate`.

    Each candidate draws from its own `torch.Generator` in the order of `generate`: the canvas, then in each step
    samples and noise.
    """

    name = "reference"
    reads = True

    def __init__(self, denoiser: Denoiser, rows_at_once: int = 64) -> None:
        """`rows_at_once`: most candidates per forward, because logits over a large vocabulary take gigabytes.

        If more candidates run, their self-conditioning is kept in host memory between steps.
        """
        self.denoiser, self.rows_at_once = denoiser, rows_at_once
        self.canvas_length, self.vocab_size = denoiser.canvas_length, denoiser.vocab_size
        self.stop_ids, self.max_context = denoiser.stop_ids, denoiser.max_context
        self._rng: dict[int, torch.Generator] = {}
        self._conditioning: dict[int, torch.Tensor] = {}
        "scaled logits (C, V) of the running candidates' last step"

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the prefix."""
        self.denoiser.encode(ids, images)

    def commit(self, ids: Ids) -> None:
        """Appends the finished canvas to the prefix."""
        self.denoiser.commit(ids.tolist())

    def interrupt(self) -> None:
        """Does nothing: a step ends by itself."""

    def release(self) -> None:
        """Frees the prefix and the remains of a failed block."""
        self._conditioning = {}
        self.denoiser.release()

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """Log-probabilities (C,) of each canvas's ids, each given the prefix and the ids to its left."""
        ids = torch.tensor(np.stack(canvases), dtype=torch.long, device=self.denoiser.device)
        return [frozen(row, np.float32) for row in self.denoiser.log_probs(ids).cpu().numpy()]

    def seed(self, candidate: int, seed: int) -> None:
        """Starts a candidate's random stream."""
        self._rng[candidate] = torch.Generator(self.denoiser.device).manual_seed(seed)

    def rng_state(self, candidate: int) -> bytes:
        """The state of a candidate's random stream."""
        return self._rng[candidate].get_state().numpy().tobytes()

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """Resets a random stream to a state."""
        self._rng[candidate].set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """Lays out canvases of noise, with the ids that their starts keep."""
        rows = [self._lay_out(i, start) for i, start in enumerate(starts)]
        ids, pinned = torch.stack([row for row, _ in rows]), torch.stack([held for _, held in rows])
        self._canvas = Canvas(ids, pinned)
        self._settings = settings
        self._suppressed = torch.tensor(sorted(suppressed), dtype=torch.long, device=self.denoiser.device)
        self._remaining = schedule.entry_step(starts[0].strength, settings.steps)
        self._stopping = StableAndConfident(settings.stability, settings.confidence)
        self._running = (~pinned).any(-1).nonzero().squeeze(-1)
        self._draft = ids.clone()
        self._first = True
        self._conditioning = {}
        return [frozen(row, np.int32) for row in ids.cpu().numpy()]

    def _lay_out(self, candidate: int, start: Start) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids (C,) of a canvas, and the mask (C,) of pinned ones."""
        rng, device, length = self._rng[candidate], self.denoiser.device, self.canvas_length
        ids = sampler.noise(length, self.vocab_size, rng)
        pinned = torch.zeros(length, dtype=torch.bool, device=device)
        if start.ids is None:
            return ids, pinned
        pinned[list(start.pinned)] = True
        kept = pinned
        if start.noised:
            kept = torch.ones_like(pinned)
        elif start.strength < 1:
            kept = pinned | (torch.rand(length, generator=rng, device=device) >= start.strength)
        return torch.where(kept, torch.tensor(start.ids, device=device), ids), pinned

    def amend(self, amendment: Amendment) -> int:
        """Pins or frees a position. From the next step on, a pin is certain in the self-conditioning too."""
        row, position = amendment.candidate, amendment.position
        if amendment.action is Action.UNPIN:
            self._canvas.unpin(row, position)
            return int(self._canvas.ids[row, position])
        token = int(self._draft[row, position]) if amendment.token is None else amendment.token
        self._canvas.pin(row, position, token)
        self._draft[row, position] = token
        return token

    @torch.inference_mode()
    def step(self) -> list[CandidateStep]:
        """One denoising step of the candidates that are not done."""
        return self._report(self.advance(self._settings.top_k))

    def advance(self, top_k: int = 0) -> "_Step":
        """One forward of the running candidates, then acceptance, renoising and stopping, all on the device.

        `top_k`: how many of the most probable ids to return for each position.
        """
        settings, rows = self._settings, self._running
        temperature = schedule.temperature(self._remaining, settings.steps, settings.t_min, settings.t_max)
        self._remaining -= 1
        pieces = [self._advance(group, temperature, top_k) for group in torch.split(rows, self.rows_at_once)]
        entropy, draft, accepted, top_probs, top_ids = (torch.cat(tensors) for tensors in zip(*pieces, strict=True))

        changed = draft != self._draft[rows]
        if self._first:
            changed, self._first = torch.zeros_like(changed), False
        self._draft[rows] = draft
        pinned = self._canvas.pinned[rows]
        # transformers takes the mean over all positions, which is the same if nothing is pinned
        mean_entropy = entropy.sum(-1) / (~pinned).sum(-1).clamp_min(1)
        if settings.stability < 0:
            done = torch.zeros_like(rows, dtype=torch.bool)
        else:
            done = self._stopping.update(self._draft.clone(), mean_entropy, rows)
        for row in rows[done].tolist():
            del self._conditioning[row]
        self._running = rows[~done]
        return _Step(
            rows, temperature, entropy, draft, pinned, accepted, changed, mean_entropy, done, top_probs, top_ids
        )

    def _advance(self, rows: torch.Tensor, temperature: float, top_k: int) -> tuple[torch.Tensor, ...]:
        """For some running candidates (R,): entropy, draft, acceptance (R, C), best probabilities and ids (R, C, K)."""
        canvas, numbers = self._canvas, rows.tolist()
        pinned, held = canvas.pinned[rows], canvas.held[rows]
        scaled = self.denoiser.logits(canvas.ids[rows], self._take_conditioning(numbers, held, pinned))
        scaled.div_(temperature).index_fill_(-1, self._suppressed, -torch.inf)
        sampler.pin_logits(scaled, held, pinned)
        probs, entropy = sampler.distribution(scaled)
        draft = torch.where(pinned, held, scaled.argmax(-1))
        kept = scaled.to(self.denoiser.conditioning_dtype)
        del scaled  # the draws below need as much memory
        if len(self._running) > self.rows_at_once:
            kept = kept.cpu()
        self._conditioning |= dict(zip(numbers, kept, strict=True))
        samples, fresh = [], []
        for i, row in enumerate(numbers):  # each has its own generator, so draws do not depend on the other candidates
            samples.append(sampler.draw(probs[i], self._rng[row]))
            fresh.append(sampler.noise(self.canvas_length, self.vocab_size, self._rng[row]))
        accepted = sampler.accept(entropy, self._settings.entropy_bound)
        canvas.set_free(rows, torch.where(accepted, torch.stack(samples), torch.stack(fresh)))
        top_probs, top_ids = probs.topk(min(top_k, self.vocab_size), dim=-1)
        return entropy, draft, accepted, top_probs, top_ids

    def _take_conditioning(self, rows: Sequence[int], held: torch.Tensor, pinned: torch.Tensor) -> torch.Tensor | None:
        """Scaled logits of the last step, handed over to the denoiser, which may free them: they are large."""
        each = [self._conditioning.pop(row) for row in rows if row in self._conditioning]
        if not each:  # the first step
            return None
        conditioning = (torch.stack(each) if len(each) > 1 else each[0].unsqueeze(0)).to(self.denoiser.device)
        return sampler.pin_logits(conditioning, held, pinned)  # they must not contradict a pin set since

    def _report(self, step: "_Step") -> list[CandidateStep]:
        """Copies a step to the host in one small transfer."""
        top_probs, top_ids = step.top_probs, step.top_ids
        flags = (
            step.pinned * int(Flag.PINNED)
            + (step.accepted & ~step.pinned) * int(Flag.ACCEPTED)
            + (~step.accepted & ~step.pinned) * int(Flag.RENOISED)
            + step.changed * int(Flag.CHANGED)
        )
        columns = [step.draft, self._canvas.ids[step.rows], flags, step.entropy]
        packed = torch.cat([*(c.float().unsqueeze(-1) for c in columns), top_ids.float(), top_probs], dim=-1)
        host = packed.cpu().numpy()  # ids stay exact in fp32 up to 2^24
        means, ends = step.mean_entropy.tolist(), step.done.tolist()
        k = top_probs.shape[-1]
        return [
            CandidateStep(
                candidate=row,
                ids=frozen(host[i, :, 0], np.int32),
                canvas=frozen(host[i, :, 1], np.int32),
                flags=frozen(host[i, :, 2], np.uint8),
                entropy=frozen(host[i, :, 3], np.float32),
                top_ids=frozen(host[i, :, 4 : 4 + k], np.int32),
                top_probs=frozen(host[i, :, 4 + k :], np.float32),
                mean_entropy=means[i],
                temperature=step.temperature,
                done=ends[i],
            )
            for i, row in enumerate(step.rows.tolist())
        ]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A step's results on the device: (R,), (R, C), and the best ids and their probabilities (R, C, K)."""

    rows: torch.Tensor
    temperature: float
    entropy: torch.Tensor
    draft: torch.Tensor
    pinned: torch.Tensor
    accepted: torch.Tensor
    changed: torch.Tensor
    mean_entropy: torch.Tensor
    done: torch.Tensor
    top_probs: torch.Tensor
    top_ids: torch.Tensor
