"""transformers' encoder with the own decoder: what a step needs of a loaded model, beside what it samples.

Also a `Denoiser`, for the reference stepper: the two ways to decode can be compared under the same sampler.
"""

import torch

from dgtui.inference.forward import Buffers, Decoder
from dgtui.model.denoiser import TransformersDenoiser


class OwnDenoiser(TransformersDenoiser):
    """Reads prompts, images and blocks as its base class does, and decodes canvases with `decoder`."""

    decoder: Decoder
    _buffers: Buffers | None = None

    def use(self, decoder: Decoder, bucket: int = 1) -> "OwnDenoiser":
        """Sets the decoder, of the same model, and what the places of its buffers are rounded up to."""
        self.decoder, self._bucket = decoder, bucket
        return self

    def buffers(self, rows: int) -> Buffers:
        """Keys and values of the prefix as it is now, with room for canvases. Those given before are used again."""
        prefix = self.prefix
        self._buffers = self.decoder.buffers(prefix.cache, len(prefix.ids), rows, self._bucket, self._buffers)
        return self._buffers

    def release(self) -> None:
        """See `TransformersDenoiser.release`."""
        self._buffers = None
        super().release()

    @torch.inference_mode()
    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids and the last step's scaled logits (B, C, V), or None at first → logits (B, C, V) in fp32."""
        embedding = self.decoder.embedding
        soft = torch.zeros((*canvas_ids.shape, embedding.shape[1]), dtype=embedding.dtype, device=embedding.device)
        if self_conditioning is not None:
            soft = self_conditioning.softmax(-1, dtype=torch.float32).to(embedding.dtype) @ embedding
        return self.decoder.logits(self.decoder.states(canvas_ids, soft, self.buffers(len(canvas_ids))))
