"""The `Denoiser` over transformers' own model class: prefix through the encoder, logits through the decoder.

Masks and positions are made exactly as transformers' `generate` makes them, so that on a cold prefix and in fp32 on the
CPU the logits are the same to the bit.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

from dgtui.model.prefix import Prefix

_NO_PADDING = {"full_attention": None, "sliding_attention": None}


class TransformersDenoiser:
    """A loaded `DiffusionGemmaForBlockDiffusion` as a denoiser; see `dgtui.diffusion.stepper.Denoiser`."""

    def __init__(
        self, model: DiffusionGemmaForBlockDiffusion, stop_ids: frozenset[int], max_context: int | None = None
    ) -> None:
        config: Any = model.config
        text = config.text_config
        self.model = model
        self.canvas_length: int = config.canvas_length
        self.vocab_size: int = text.vocab_size
        self.device: torch.device = model.device
        self.stop_ids = stop_ids
        self.max_context: int = min(max_context or text.max_position_embeddings, text.max_position_embeddings)
        self.prefix = Prefix(self._encode, lambda: DynamicCache(config=text))
        self._conditioning_dtype = model.model.decoder.embed_tokens.weight.dtype

    def encode(self, ids: Sequence[int]) -> None:
        """Makes `ids` the prefix, reusing what it has in common with the present one."""
        self.prefix.become(ids)

    def commit(self, ids: Sequence[int]) -> None:
        """Appends a finished canvas to the prefix."""
        self.prefix.append(ids)

    @torch.inference_mode()
    def _encode(self, ids: Sequence[int], cache: DynamicCache, start: int) -> None:
        encoder = self.model.model.encoder
        input_ids = torch.tensor([list(ids)], device=self.device)
        positions = torch.arange(start, start + len(ids), dtype=torch.int32, device=self.device).unsqueeze(0)
        masks = encoder.create_masks_for_generate(
            config=self.model.config,
            inputs_embeds=torch.empty((1, len(ids), 0), dtype=self.model.dtype, device=self.device),
            attention_mask=torch.ones((1, start + len(ids)), dtype=torch.bool, device=self.device),
            past_key_values=cache,
            position_ids=positions,
        )
        encoder(input_ids=input_ids, attention_mask=masks, past_key_values=cache, position_ids=positions)

    @torch.inference_mode()
    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids and the last step's scaled logits (B, C, V), or None at first → logits (B, C, V) in fp32."""
        start = len(self.prefix.ids)
        positions = torch.arange(start, start + self.canvas_length, dtype=torch.int32, device=self.device)
        if self_conditioning is not None:
            self_conditioning = self_conditioning.to(self._conditioning_dtype)
        output = self.model(
            decoder_input_ids=canvas_ids,
            past_key_values=self.prefix.expanded(len(canvas_ids)),
            self_conditioning_logits=self_conditioning,
            decoder_attention_mask=_NO_PADDING,
            decoder_position_ids=positions.unsqueeze(0),
        )
        logits: torch.Tensor = output.logits
        return logits
