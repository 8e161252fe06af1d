"""dgtui's own encoder and decoder: everything that a step needs of a loaded model except sampling.

It is also a `Denoiser` for the reference stepper, so both decoders can be compared with the same sampler.
"""

from collections.abc import Mapping

import torch
from transformers.cache_utils import DynamicCache

from dgtui.inference.encoder import Encoder
from dgtui.inference.forward import Buffers, Decoder
from dgtui.model.denoiser import TransformersDenoiser


class OwnDenoiser(TransformersDenoiser):
    """Encodes prompts, images and blocks with the decoder's layers, and decodes canvases with `decoder`."""

    decoder: Decoder
    _encoder: Encoder
    _buffers: Buffers | None = None

    def use(self, decoder: Decoder, bucket: int = 1) -> "OwnDenoiser":
        """Sets the decoder, which must be of the same model, and the size that its buffers are rounded up to."""
        self.decoder, self._bucket = decoder, bucket
        self._encoder = Encoder(self.model, decoder)
        return self

    def _encoded(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        masks: Mapping[str, torch.Tensor | None],
        cache: DynamicCache,
    ) -> torch.Tensor:
        """See `TransformersDenoiser._encoded`."""
        return self._encoder.read(embeddings, positions, masks, cache)

    def buffers(self, rows: int) -> Buffers:
        """Keys and values of the current prefix, with room for canvases. Reuses the buffers of the previous call."""
        prefix = self.prefix
        self._buffers = self.decoder.buffers(prefix.cache, len(prefix.ids), rows, self._bucket, self._buffers)
        return self._buffers

    def release(self) -> None:
        """See `TransformersDenoiser.release`."""
        self._buffers = None
        super().release()

    @torch.inference_mode()
    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids and the last step's scaled logits (B, C, V) or None → logits (B, C, V) in fp32."""
        embedding = self.decoder.embedding
        soft = torch.zeros((*canvas_ids.shape, embedding.shape[1]), dtype=embedding.dtype, device=embedding.device)
        if self_conditioning is not None:
            soft = self_conditioning.softmax(-1, dtype=torch.float32).to(embedding.dtype) @ embedding
        return self.decoder.logits(self.decoder.states(canvas_ids, soft, self.buffers(len(canvas_ids))))
