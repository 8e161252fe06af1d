"""The engine over the reference stepper writes what transformers' `generate` writes, token for token.

On random models in fp32 on the CPU. They are made sharp (a wider last norm), so that positions are accepted before the
last step. A calm one (layers and self-conditioning that add little to what comes in) has drafts that settle, so that
blocks end early; a wild one has none, and every token hangs on everything.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from checkpoints import VOCAB, altered, generation_config, tiny_config, tiny_model
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

from dgtui.diffusion import engine
from dgtui.diffusion.events import Flag, Frame, StopReason
from dgtui.diffusion.job import Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.model.denoiser import TransformersDenoiser

PAD = 0
PROMPT = 21


def narrow() -> DiffusionGemmaConfig:
    """A window shorter than the prompt, and than the canvas."""
    return tiny_config(layers=2, experts=4, hidden=64, canvas=16, sliding_window=8)


def wide() -> DiffusionGemmaConfig:
    """A window longer than prompt and all blocks together; three experts at once, twice as many heads."""
    config = tiny_config(layers=3, experts=6, hidden=32, canvas=24, sliding_window=256)
    return altered(config, top_k_experts=3, num_attention_heads=8, num_key_value_heads=4)


def between() -> DiffusionGemmaConfig:
    """A window that the prompt leaves open and the first block fills; one expert at once, two full layers of five."""
    config = tiny_config(layers=5, experts=3, hidden=48, canvas=8, sliding_window=26)
    return altered(config, top_k_experts=1)


GEOMETRIES = {make.__name__: make for make in (narrow, wide, between)}


@functools.cache
def model(geometry: str, calm: bool = False) -> DiffusionGemmaForBlockDiffusion:
    made = tiny_model(GEOMETRIES[geometry](), seed=1)
    with torch.no_grad():
        made.model.decoder.norm.weight.mul_(2.5 if calm else 4)
        for name, weight in made.model.decoder.named_parameters() if calm else ():
            if "post_" in name or "self_conditioning.down" in name:
                weight.mul_(0.35)
    return made


NEVER = SamplerSettings(steps=10, stability=2, confidence=1e-6)
"Asks for so much that no block stops early."
LOOSE = SamplerSettings(steps=24, stability=1, confidence=1.5, entropy_bound=1.0)
"A draft that repeats itself is enough."
LOOSER = SamplerSettings(steps=12, stability=0, confidence=0.45, entropy_bound=0.5, t_min=0.2, t_max=0.7)
"A moment of confidence is enough."


@dataclass
class Generated:
    """What `generate` gave: ids as the engine cuts them, how many are not padding, and the decoder's forwards."""

    ids: list[int]
    valid: int
    tokens_per_forward: float
    forwards: int


def generate(
    made: DiffusionGemmaForBlockDiffusion,
    prompt: list[int],
    settings: SamplerSettings,
    seed: int,
    max_tokens: int,
    stop_ids: frozenset[int],
) -> Generated:
    config = generation_config(
        max_new_tokens=max_tokens,
        max_denoising_steps=settings.steps,
        t_min=settings.t_min,
        t_max=settings.t_max,
        sampler_config=EntropyBoundSamplerConfig(settings.entropy_bound),
        stability_threshold=settings.stability,
        confidence_threshold=settings.confidence,
        eos_token_id=sorted(stop_ids),
        pad_token_id=PAD,
    )
    forwards = 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    hook = made.model.decoder.register_forward_hook(count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = made.generate(torch.tensor([prompt]), generation_config=config)
    hook.remove()
    new = out.sequences[0, len(prompt) :]
    ends = [i for i, token in enumerate(new.tolist()) if token in stop_ids]
    kept = new.tolist()[: min([*ends, max_tokens])]
    return Generated(kept, int((new != PAD).sum()), float(out.tokens_per_forward[0]), forwards)


def prompt_of(seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(1000 + seed)
    return [int(i) for i in torch.randint(10, VOCAB, (PROMPT,), generator=draw)]


def run(
    made: DiffusionGemmaForBlockDiffusion,
    prompt: list[int],
    settings: SamplerSettings,
    seed: int,
    max_tokens: int,
    stop_ids: frozenset[int],
) -> RunLog:
    stepper = ReferenceStepper(TransformersDenoiser(made, stop_ids))
    job = Job("equality", tuple(prompt), seed, max_tokens, settings)
    return RunLog(job, engine.run(stepper, job))


# No id that can be written, so that runs of several blocks have several
SILENT = frozenset({VOCAB})


@pytest.mark.parametrize("settings", [NEVER, LOOSE, LOOSER], ids=["never", "loose", "looser"])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_run_is_generate_token_for_token(geometry: str, blocks: int, settings: SamplerSettings) -> None:
    made = model(geometry, calm=settings is LOOSE)
    canvas = made.config.canvas_length
    max_tokens = canvas * blocks - (3 if blocks > 1 else 0)  # generate rounds up to whole canvases
    early, changed = 0, 0
    accepted: list[int] = []
    for seed in (0, 2**40 + 7):
        prompt = prompt_of(seed)
        theirs = generate(made, prompt, settings, seed, max_tokens, SILENT)
        log = run(made, prompt, settings, seed, max_tokens, SILENT)
        finished = log.finished
        assert finished is not None
        assert finished.token_ids[0].tolist() == theirs.ids
        assert sum(finished.steps) == theirs.forwards == len(log.frames())
        assert theirs.valid / theirs.forwards == pytest.approx(theirs.tokens_per_forward)
        assert finished.reason is StopReason.LENGTH
        assert len(finished.steps) == blocks
        assert len(theirs.ids) == max_tokens
        early += sum(s < settings.steps for s in finished.steps)
        accepted += [int((f.flags & Flag.ACCEPTED > 0).sum()) for f in log.frames()]
        changed += sum(bool((f.flags & Flag.CHANGED).any()) for f in log.frames())
    assert (early == 0) == (settings is NEVER)
    assert changed > 3
    assert 1 < sum(accepted) / len(accepted) < canvas  # some are accepted and some are not
    assert len(set(accepted)) > 2


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_cut_at_a_stop_id_is_generates(geometry: str) -> None:
    made = model(geometry)
    canvas = made.config.canvas_length
    ended = 0
    for seed in range(4):
        prompt = prompt_of(seed)
        # A stop id that this very run writes in its second block, or in its first
        free = run(made, prompt, LOOSER, seed, 3 * canvas, SILENT)
        finished = free.finished
        assert finished is not None
        written = finished.token_ids[0]
        first = written[:canvas].tolist()
        later = [int(i) for i in written[canvas : 2 * canvas] if int(i) not in first and i != PAD]
        stop_ids = frozenset({later[len(later) // 2] if later and seed % 2 else first[canvas // 2]})
        theirs = generate(made, prompt, LOOSER, seed, 3 * canvas, stop_ids)
        log = run(made, prompt, LOOSER, seed, 3 * canvas, stop_ids)
        assert log.finished is not None
        assert log.finished.reason is StopReason.EOS
        assert log.finished.token_ids[0].tolist() == theirs.ids
        assert sum(log.finished.steps) == theirs.forwards
        ended += len(log.finished.steps)
    assert ended > 4  # not every one of them in its first block


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_each_block_takes_generates_steps(geometry: str) -> None:
    made = model(geometry)
    canvas = made.config.canvas_length
    prompt = prompt_of(3)
    log = run(made, prompt, LOOSER, 3, 3 * canvas, SILENT)
    assert log.finished is not None
    before = 0
    for number, steps in enumerate(log.finished.steps, 1):  # a run of fewer blocks is the beginning of a longer one
        theirs = generate(made, prompt, LOOSER, 3, number * canvas, SILENT)
        assert theirs.forwards - before == steps
        before = theirs.forwards
    assert [b.steps for b in log.blocks()] == list(log.finished.steps)


def test_the_drafts_are_generates_drafts() -> None:
    class Drafts:
        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def put(self, value: torch.Tensor) -> None: ...

        def end(self) -> None: ...

        def put_draft(self, value: torch.Tensor) -> None:
            self.seen.append(value[0].tolist())

    made, drafts, prompt = model("narrow", calm=True), Drafts(), prompt_of(5)
    config = generation_config(
        max_new_tokens=32,
        max_denoising_steps=LOOSE.steps,
        sampler_config=EntropyBoundSamplerConfig(LOOSE.entropy_bound),
        confidence_threshold=LOOSE.confidence,
        eos_token_id=sorted(SILENT),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made.generate(torch.tensor([prompt]), generation_config=config, streamer=drafts)
    assert [f.ids.tolist() for f in run(made, prompt, LOOSE, 5, 32, SILENT).frames()] == drafts.seen


def test_a_run_leaves_the_global_random_stream_alone() -> None:
    before = torch.random.get_rng_state()
    run(model("narrow"), prompt_of(0), LOOSER, 0, 16, SILENT)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_candidates_of_a_real_model_start_as_the_runs_of_their_own() -> None:
    """In a batch logits may differ in their last bits, and a run may hang on them; its first step hardly does."""
    made, prompt = model("narrow"), tuple(prompt_of(0))

    def first(candidates: int) -> list[Frame]:
        job = Job("batch", prompt, 4, 16, LOOSER, (Start(),) * candidates)
        events = engine.run(ReferenceStepper(TransformersDenoiser(made, SILENT)), job)
        return [e for e in events if isinstance(e, Frame) and e.step == 1]

    alone, three = first(1), first(3)
    assert len(three) == 3
    np.testing.assert_allclose(alone[0].entropy, three[0].entropy, atol=1e-3)
    assert (alone[0].ids == three[0].ids).mean() > 0.9
    assert (three[0].ids != three[1].ids).any()
