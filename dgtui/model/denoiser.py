"""The `Denoiser` over transformers' own model class: prefix through the encoder, logits through the decoder.

Masks and positions are made exactly as transformers' `generate` makes them, so that on a cold prefix and in fp32 on the
CPU the logits are the same to the bit.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import DynamicCache
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

from dgtui.model.plan import PIECE, SNAPSHOTS
from dgtui.model.prefix import Prefix

CACHE: Final = (
    "cache" if "cache" in inspect.signature(DiffusionGemmaForBlockDiffusion.forward).parameters else "past_key_values"
)
"""What transformers calls the argument that takes the KV cache: the second name until 5.23, the first one since."""

_NO_PADDING = {"full_attention": None, "sliding_attention": None}


class TransformersDenoiser:
    """A loaded `DiffusionGemmaForBlockDiffusion` as a denoiser; see `dgtui.diffusion.stepper.Denoiser`."""

    def __init__(
        self,
        model: DiffusionGemmaForBlockDiffusion,
        stop_ids: frozenset[int],
        max_context: int | None = None,
        snapshots: int = SNAPSHOTS[0],
    ) -> None:
        config: Any = model.config
        text = config.text_config
        self.model = model
        self.canvas_length: int = config.canvas_length
        self.vocab_size: int = text.vocab_size
        self.device: torch.device = model.device
        self.stop_ids = stop_ids
        self.max_context: int = min(max_context or text.max_position_embeddings, text.max_position_embeddings)
        self.prefix = Prefix(self._encode, lambda: DynamicCache(config=text), snapshots)
        self._conditioning_dtype = model.model.decoder.embed_tokens.weight.dtype

    def encode(self, ids: Sequence[int]) -> None:
        """Makes `ids` the prefix, reusing what it has in common with the present one."""
        self.prefix.become(ids)

    def commit(self, ids: Sequence[int]) -> None:
        """Appends a finished canvas to the prefix."""
        self.prefix.append(ids)

    def release(self) -> None:
        """Gives back the memory of the prefix, which is empty then, and what the GPU's allocator holds unused."""
        self.prefix.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        """(B, C) ids → (B, C) log-probabilities in nats: of each id after the prefix and what is left of it on the
        canvas; 0 for the first. The prefix stays as it is."""
        states = self._read(canvas_ids, self.prefix.branch(len(canvas_ids)), len(self.prefix.ids))
        found = torch.zeros(canvas_ids.shape, device=self.device)
        for row, ids in enumerate(canvas_ids):  # one at a time: logits of a large vocabulary take much memory
            logits = self._head(states[row, :-1])
            found[row, 1:] = logits.log_softmax(-1).gather(-1, ids[1:, None]).squeeze(-1)
        return found

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        """(…, hidden) → (…, V) logits in fp32: what the model's own forward does, in one copy instead of three."""
        logits: torch.Tensor = self.model.lm_head(states).float()
        cap = self.model.final_logit_softcapping
        return logits.div_(cap).tanh_().mul_(cap) if cap else logits

    @torch.inference_mode()
    def _encode(self, ids: Sequence[int], cache: DynamicCache, start: int) -> None:
        for at in range(0, len(ids), PIECE):
            self._read(torch.tensor([list(ids[at : at + PIECE])], device=self.device), cache, start + at)

    def _read(self, ids: torch.Tensor, cache: DynamicCache, start: int) -> torch.Tensor:
        """Reads ids (B, N) into a cache that holds `start` ids already; the encoder's states (B, N, hidden)."""
        encoder, (rows, count) = self.model.model.encoder, ids.shape
        positions = torch.arange(start, start + count, dtype=torch.int32, device=self.device).unsqueeze(0)
        masks = encoder.create_masks_for_generate(
            config=self.model.config,
            inputs_embeds=torch.empty((rows, count, 0), dtype=self.model.dtype, device=self.device),
            attention_mask=torch.ones((rows, start + count), dtype=torch.bool, device=self.device),
            position_ids=positions,
            **{CACHE: cache},
        )
        states: torch.Tensor = encoder(
            input_ids=ids, attention_mask=masks, position_ids=positions, **{CACHE: cache}
        ).last_hidden_state
        return states

    @torch.inference_mode()
    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids and the last step's scaled logits (B, C, V), or None at first → logits (B, C, V) in fp32."""
        start = len(self.prefix.ids)
        positions = torch.arange(start, start + self.canvas_length, dtype=torch.int32, device=self.device)
        if self_conditioning is not None:
            self_conditioning = self_conditioning.to(self._conditioning_dtype)
        states: torch.Tensor = self.model.model(
            decoder_input_ids=canvas_ids,
            self_conditioning_logits=self_conditioning,
            decoder_attention_mask=_NO_PADDING,
            decoder_position_ids=positions.unsqueeze(0),
            **{CACHE: self.prefix.expanded(len(canvas_ids))},
        ).last_hidden_state
        del self_conditioning  # as large as the logits
        return self._head(states)
