"""A denoiser made of numbers: reacts to prefix, canvas and self-conditioning, and to nothing else in its batch."""

from collections.abc import Callable, Sequence

import torch

from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Job, SamplerSettings, Start
from dgtui.diffusion.reference import ReferenceStepper

CANVAS, VOCAB = 12, 23
EOS = 5
SETTINGS = SamplerSettings(steps=8, stability=-1, entropy_bound=2.0, top_k=3)


class NumericDenoiser:
    """Logits of a position: a row of a fixed random table for its place, for itself and for both neighbours' ids.

    Only look-ups and sums in a fixed order, so that a canvas gets the same logits to the bit in any batch. `script`
    has the last word: it gets the logits (B, C, V) and the number of blocks in the prefix.
    """

    def __init__(
        self, sharpness: float = 4.0, script: Callable[[torch.Tensor, int], torch.Tensor] | None = None
    ) -> None:
        self.canvas_length, self.vocab_size, self.max_context = CANVAS, VOCAB, 200
        self.device, self.stop_ids = torch.device("cpu"), frozenset({EOS})
        self.conditioning_dtype = torch.float32
        draw = torch.Generator().manual_seed(7)
        self._tables = [torch.randn(VOCAB, VOCAB, generator=draw) * sharpness * w for w in (0.3, 0.15, 0.15, 0.3)]
        self._places = torch.randn(1, CANVAS, VOCAB, generator=draw) * sharpness
        self._script = script
        self.prefix: list[int] = []
        self.images: tuple[Image, ...] = ()
        self.commits = 0
        self.forwards: list[int] = []
        "canvases in each forward so far"
        self.conditioned: list[torch.Tensor | None] = []
        self.seen: list[torch.Tensor] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        self.prefix, self.commits, self.images = list(ids), 0, tuple(images)

    def commit(self, ids: Sequence[int]) -> None:
        self.prefix += ids
        self.commits += 1

    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        """An id is the less likely the further it is from the one before it."""
        return -torch.nn.functional.pad(canvas_ids.diff(dim=-1).abs().float(), (1, 0))

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        self.forwards.append(len(canvas_ids))
        self.seen.append(canvas_ids.clone())
        self.conditioned.append(None if self_conditioning is None else self_conditioning.clone())
        own, left, right, before = self._tables
        out = self._places + own[canvas_ids] + left[canvas_ids.roll(1, 1)] + right[canvas_ids.roll(-1, 1)]
        out = out + before[sum(self.prefix) % VOCAB]
        if self_conditioning is not None:
            out = out + before[self_conditioning.argmax(-1)]
        return self._script(out, self.commits) if self._script else out


def certain(ids: Sequence[int]) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """A script that is sure of these ids from the first step."""

    def script(logits: torch.Tensor, block: int) -> torch.Tensor:
        out = torch.full_like(logits, -100.0)
        out[:, range(CANVAS), list(ids)] = 0.0
        return out

    return script


def never(token: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """A script that leaves everything as it is, but one id is never written."""

    def script(logits: torch.Tensor, block: int) -> torch.Tensor:
        logits[..., token] = -100.0
        return logits

    return script


def endless() -> NumericDenoiser:
    """One that never writes the stop id."""
    return NumericDenoiser(script=never(EOS))


def stepper(denoiser: NumericDenoiser | None = None) -> ReferenceStepper:
    return ReferenceStepper(denoiser or endless())


def job(
    *,
    seed: int = 0,
    max_tokens: int = CANVAS,
    settings: SamplerSettings = SETTINGS,
    candidates: int = 1,
    start: Start | None = None,
    blocks: tuple[tuple[int, ...], ...] = (),
    starts: tuple[Start, ...] = (),
) -> Job:
    """All candidates have one start, unless there are `starts` of their own."""
    starts = starts or (start or Start(),) * candidates
    return Job("a job", (1, 2, 3), seed, max_tokens, settings, starts, blocks)
