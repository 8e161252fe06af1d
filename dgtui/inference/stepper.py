"""The device stepper: a whole denoising step on the device, and one small copy to the host.

Forward, sampling, acceptance, pins and stopping are operations of static shapes on tensors at fixed addresses, so a
step can be captured in a CUDA graph. What changes from step to step (temperature, step number, pins, seeds) is written
into those tensors between steps. Random numbers are a function of (seed, candidate, block, step, position), so a
candidate's draws do not depend on the others.

B candidates, R of them still running, C canvas positions, V vocabulary, K alternatives, H hidden.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from dgtui.diffusion import schedule
from dgtui.diffusion.events import Action, Flag, Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import CandidateStep, frozen
from dgtui.inference.denoiser import OwnDenoiser
from dgtui.inference.graphs import Graphs
from dgtui.inference.sampling import Head
from dgtui.kernels.sampler import Draws, Pins, Sampled, philox_reference, uniform_reference

_STREAM: Final = struct.Struct("<qqq")


@dataclass(slots=True)
class State:
    """The running candidates, on the device. The tensors keep their addresses as long as R does not change."""

    ids: torch.Tensor
    "(R, C) int64: what the model sees next"
    held: torch.Tensor
    "(R, C) int64: ids of pinned positions"
    pinned: torch.Tensor
    "(R, C) bool"
    draft: torch.Tensor
    "(R, C) int64: the newest draft, with later pins"
    before: torch.Tensor
    "(R, C) int64: the newest draft, as the model gave it"
    soft: torch.Tensor
    "(R, C, H): soft embedding of the last step"
    same: torch.Tensor
    "(R) int64: number of steps without a change of the draft"
    seeds: torch.Tensor
    "(R) int64"
    candidates: torch.Tensor
    "(R) int32: the candidate's number for random numbers"
    counter: torch.Tensor
    "(2) int32: block, step"
    inverse_temperature: torch.Tensor
    "() fp32"
    started: torch.Tensor
    "() bool: whether a step has been taken"

    def rows(self, which: torch.Tensor) -> "State":
        """The state of some rows (n) int64."""
        shared = ("counter", "inverse_temperature", "started")
        each = {field.name: getattr(self, field.name) for field in fields(self)}
        return State(**{name: own if name in shared else own[which] for name, own in each.items()})

    def load(self, other: "State") -> None:
        """Copies the values of a state of the same shapes."""
        for field in fields(self):
            getattr(self, field.name).copy_(getattr(other, field.name))


@dataclass(slots=True)
class _Stream:
    """The key of a candidate's random numbers, without block and step."""

    seed: int
    candidate: int


class DeviceStepper:
    """See `dgtui.diffusion.stepper.Stepper`. Its drafts equal the reference's up to rounding; its random draws
    differ."""

    reads = True

    def __init__(
        self,
        denoiser: OwnDenoiser,
        head: Callable[[int], Head],
        name: str,
        rows_at_once: int = 64,
        graphs: Graphs | None = None,
    ) -> None:
        """
        Args:
            denoiser: The model.
            head: Creates the last part of a step, for a number of alternatives.
            name: Differs between steppers that give different results; recordings store it.
            rows_at_once: Most candidates per forward.
            graphs: Captures and replays steps.
        """
        self.name, self.denoiser, self.rows_at_once = name, denoiser, rows_at_once
        self.canvas_length, self.vocab_size = denoiser.canvas_length, denoiser.vocab_size
        self.stop_ids, self.max_context = denoiser.stop_ids, denoiser.max_context
        self._make_head, self._graphs = head, graphs
        self._streams: dict[int, _Stream] = {}
        self._heads: dict[int, Head] = {}
        "by number of alternatives"
        self._block = 0
        self._state: State | None = None
        self._states: dict[int, State] = {}
        "by number of candidates: the places in memory that captured steps know"
        self._rows: list[int] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._block, self._rows = 0, []
        self.denoiser.encode(ids, images)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`."""
        self._block += 1
        self.denoiser.commit(ids.tolist())

    def interrupt(self) -> None:
        """See `Stepper.interrupt`. A step cannot be interrupted."""

    def release(self) -> None:
        """See `Stepper.release`."""
        self._state, self._rows = None, []
        self._states.clear()
        if self._graphs is not None:
            self._graphs.forget()
        self.denoiser.release()

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`."""
        ids = torch.tensor(np.stack(canvases), dtype=torch.long, device=self.denoiser.device)
        return [frozen(row, np.float32) for row in self.denoiser.log_probs(ids).cpu().numpy()]

    @torch.inference_mode()
    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. The counts of blocks and steps continue."""
        self._streams[candidate] = _Stream(seed, candidate)
        if candidate in self._rows:
            state, row = self._running(), self._rows.index(candidate)
            state.seeds[row], state.candidates[row] = seed, candidate

    def rng_state(self, candidate: int) -> bytes:
        """See `Stepper.rng_state`: seed, candidate and block."""
        stream = self._streams[candidate]
        return _STREAM.pack(stream.seed, stream.candidate, self._block)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`. Raises `ValueError` for a state of another stepper."""
        if len(state) != _STREAM.size:
            raise ValueError("the random state comes from another stepper")
        seed, number, self._block = _STREAM.unpack(state)
        self._streams[candidate] = _Stream(seed, number)

    @torch.inference_mode()
    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`."""
        self._settings = settings
        self._remaining = schedule.entry_step(starts[0].strength, settings.steps)
        if settings.top_k not in self._heads:
            self._heads[settings.top_k] = self._make_head(settings.top_k)
        self._head = self._heads[settings.top_k]
        self._head.suppress(self._tensor(sorted(suppressed)))
        made = self._lay_out(starts)
        free = [i for i, start in enumerate(starts) if len(start.pinned) < self.canvas_length]
        canvases = made.ids.cpu().numpy()
        self._keep(made.rows(self._tensor(free)), free)
        self._buffers = self.denoiser.buffers(max(1, min(len(free), self.rows_at_once)))
        return [frozen(row, np.int32) for row in canvases]

    def _keep(self, state: State, rows: list[int]) -> None:
        """Continues with a state: for captured steps, in the memory of an earlier one of as many candidates."""
        self._state, self._rows = state, rows
        if self._graphs is not None:
            self._state = self._states.setdefault(len(rows), state)
            if self._state is not state:
                self._state.load(state)

    def _tensor(self, values: Sequence[int], dtype: torch.dtype = torch.long) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self.denoiser.device)

    def _lay_out(self, starts: Sequence[Start]) -> State:
        """The candidates at the start of a block."""
        count, length, device = len(starts), self.canvas_length, self.denoiser.device
        streams = [self._streams[i] for i in range(count)]
        seeds = self._tensor([stream.seed for stream in streams])
        candidates = self._tensor([stream.candidate for stream in streams], torch.int32)
        counter = self._tensor([self._block, 0], torch.int32)
        words = philox_reference(Draws(seeds, candidates, counter), length)
        noise = (words[1] * self.vocab_size) >> 32
        pinned = np.zeros((count, length), dtype=np.bool_)
        given, kept = np.zeros((count, length), dtype=np.int64), np.zeros((count, length), dtype=np.float32)
        for row, start in enumerate(starts):
            if start.ids is not None:
                given[row] = start.ids
                pinned[row, list(start.pinned)] = True
                kept[row] = 1.0 if start.noised else 1.0 - start.strength
        held = torch.from_numpy(pinned).to(device)
        # the first word is not used for a sample before the first step
        stays = held | (uniform_reference(words[0]) < torch.from_numpy(kept).to(device))
        ids = torch.where(stays, torch.from_numpy(given).to(device), noise)
        embedding = self.denoiser.decoder.embedding
        return State(
            ids=ids,
            held=ids.clone(),
            pinned=held,
            draft=ids.clone(),
            before=ids.clone(),
            soft=torch.zeros((count, length, embedding.shape[1]), dtype=embedding.dtype, device=device),
            same=torch.zeros(count, dtype=torch.long, device=device),
            seeds=seeds,
            candidates=candidates,
            counter=counter,
            inverse_temperature=torch.ones((), device=device),
            started=torch.zeros((), dtype=torch.bool, device=device),
        )

    @torch.inference_mode()
    def amend(self, amendment: Amendment) -> int:
        """See `Stepper.amend`. From the next step on, a pin is certain in the self-conditioning."""
        state, row, at = self._running(), self._rows.index(amendment.candidate), amendment.position
        if amendment.action is Action.UNPIN:
            state.pinned[row, at] = False
            return int(state.ids[row, at])
        token = int(state.draft[row, at]) if amendment.token is None else amendment.token
        for own in (state.ids, state.held, state.draft):
            own[row, at] = token
        state.pinned[row, at] = True
        return token

    def _running(self) -> State:
        assert self._state is not None, "no block has started"
        return self._state

    @torch.inference_mode()
    def step(self) -> list[CandidateStep]:
        """See `Stepper.step`."""
        return self._step(self._graphs)

    @torch.inference_mode()
    def step_eagerly(self) -> list[CandidateStep]:
        """A step without a captured graph."""
        return self._step(None)

    def _step(self, graphs: Graphs | None) -> list[CandidateStep]:
        settings, state = self._settings, self._running()
        temperature = schedule.temperature(self._remaining, settings.steps, settings.t_min, settings.t_max)
        self._remaining -= 1
        state.inverse_temperature.fill_(1 / temperature)
        state.counter[1] += 1
        if graphs is not None:
            packed = graphs(self.advance, state, (self._buffers, self._head), settings)
        else:
            packed = self.advance()
        host = packed.cpu().numpy()
        steps = [self._unpack(row, number, temperature) for row, number in zip(host, self._rows, strict=True)]
        going = [at for at, step in enumerate(steps) if not step.done]
        if len(going) < len(steps):
            self._keep(state.rows(self._tensor(going)), [self._rows[at] for at in going])
        return steps

    def advance(self) -> torch.Tensor:
        """A step's work on the device: (R, C · (4 + 2K) + 2), for `_unpack`.

        Static shapes, and no synchronisation with the device.
        """
        settings, state, live = self._settings, self._running(), self._running().started
        sampled = self._sample(state, live)
        pins = Pins(state.held, state.pinned, None)
        ops = self.denoiser.decoder.ops
        step = ops.accept(sampled, pins, torch.full_like(state.inverse_temperature, settings.entropy_bound))
        draft = sampled.argmax
        changed = (draft != state.draft) & live
        state.same.copy_(torch.where((draft == state.before).all(-1) & live, state.same + 1, 0))
        done = (state.same >= settings.stability) & (step.mean_entropy < settings.confidence)
        if settings.stability < 0:
            done = torch.zeros_like(done)
        for own in (state.draft, state.before):
            own.copy_(draft)
        state.ids.copy_(step.canvas)
        state.started.fill_(True)
        flags = (
            state.pinned * int(Flag.PINNED)
            + (step.accepted & ~state.pinned) * int(Flag.ACCEPTED)
            + (~step.accepted & ~state.pinned) * int(Flag.RENOISED)
            + changed * int(Flag.CHANGED)
        )
        top = min(settings.top_k, self.vocab_size)
        columns = [*(c.float().unsqueeze(-1) for c in (draft, step.canvas, flags, sampled.entropy))]
        columns += [sampled.top_ids[..., :top].float(), sampled.top_probs[..., :top]]  # ids are exact up to 2^24
        ends = [step.mean_entropy.unsqueeze(-1), done.float().unsqueeze(-1)]
        return torch.cat([torch.cat(columns, -1).flatten(1), *ends], -1)

    def _sample(self, state: State, live: torch.Tensor) -> Sampled:
        """Forward and head, for a group of candidates at a time; writes the soft embeddings to the state."""
        decoder = self.denoiser.decoder
        certain = functional.embedding(state.held, decoder.embedding)  # includes pins set since the last step
        state.soft.copy_(torch.where((state.pinned & live).unsqueeze(-1), certain, state.soft))
        found = []
        for start in range(0, len(state.ids), self.rows_at_once):
            own = slice(start, start + self.rows_at_once)
            ids = state.ids[own]
            states = decoder.states(ids, state.soft[own], self._buffers.rows(len(ids)))
            pins = Pins(state.held[own], state.pinned[own], None)
            draws = Draws(state.seeds[own], state.candidates[own], state.counter)
            sampled, soft = self._head(states, state.inverse_temperature, pins, draws, self._settings.top_k)
            state.soft[own] = soft
            found.append(sampled)
        if len(found) == 1:
            return found[0]
        return Sampled(*(torch.cat([getattr(each, f.name) for each in found]) for f in fields(Sampled)))

    def _unpack(self, row: npt.NDArray[np.float32], candidate: int, temperature: float) -> CandidateStep:
        """Reads a row of `advance`, on the host."""
        table = row[:-2].reshape(self.canvas_length, -1)
        top = table.shape[1] // 2 + 2
        return CandidateStep(
            candidate=candidate,
            ids=frozen(table[:, 0], np.int32),
            canvas=frozen(table[:, 1], np.int32),
            flags=frozen(table[:, 2], np.uint8),
            entropy=frozen(table[:, 3], np.float32),
            top_ids=frozen(table[:, 4:top], np.int32),
            top_probs=frozen(table[:, top:], np.float32),
            mean_entropy=float(row[-2]),
            temperature=temperature,
            done=bool(row[-1]),
        )
