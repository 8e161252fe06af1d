"""A `Denoiser` on transformers' own model class: the encoder reads the prefix, the decoder computes logits.

Masks and positions are exactly those of transformers' `generate`. On a cold prefix, in fp32 on the CPU, the logits are
bit-identical.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import DynamicCache
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

from dgtui.diffusion.image import Image
from dgtui.diffusion.job import BadJob
from dgtui.model import devices
from dgtui.model.plan import PIECE, SNAPSHOTS
from dgtui.model.prefix import Place, Prefix

CACHE: Final = (
    "cache" if "cache" in inspect.signature(DiffusionGemmaForBlockDiffusion.forward).parameters else "past_key_values"
)
"""The name of transformers' KV cache argument: the second one up to 5.23, the first one since."""

_NO_PADDING = {"full_attention": None, "sliding_attention": None}


class TransformersDenoiser:
    """A loaded `DiffusionGemmaForBlockDiffusion` as a denoiser; see `dgtui.diffusion.reference.Denoiser`."""

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
        self._image_token: int = config.image_token_id
        self._images: dict[str, Image] = {}
        "the images of the prefix, by digest"
        self.conditioning_dtype = model.model.decoder.embed_tokens.weight.dtype

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the prefix, and reuses what it has in common with the current one.

        An image's positions are a run of the checkpoint's image id, as long as the image. Runs after that of the
        last image (a reply may hold such ids) are ordinary ids. Raises `BadJob` if there are no such positions, or
        if an image was made for another vision tower.
        """
        vision: Any = self.model.config.vision_config
        for number, image in enumerate(images, 1):
            fits = image.patches.shape[1] == 3 * vision.patch_size**2
            if not fits or image.positions.max() >= vision.position_embedding_size:
                raise BadJob(f"image {number} was made for another model")
        places = _placed(ids, images, self._image_token)
        self._images = {image.digest: image for image in images}
        self.prefix.extend_to(places)

    def commit(self, ids: Sequence[int]) -> None:
        """Appends a finished canvas to the prefix."""
        self.prefix.append(ids)

    def release(self) -> None:
        """Empties the prefix and frees its memory, and the memory that PyTorch holds unused."""
        self.prefix.clear()
        devices.give_back()

    @torch.inference_mode()
    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        """(B, C) ids → (B, C) log-probabilities in nats: of each id, given the prefix and the ids to its left on the
        canvas; 0 for the first. The prefix does not change."""
        start = len(self.prefix.ids)
        # As many at a time as take no more memory than a piece of the longest prompt
        together = max(1, min(PIECE // self.canvas_length, self.max_context // (start + self.canvas_length)))
        found = []
        for group in torch.split(canvas_ids, together):
            states = self._read(group, self.prefix.expanded(len(group)), start)
            for row, ids in zip(states, group, strict=True):  # the logits of a large vocabulary take a lot of memory
                known = self._head(row[:-1]).log_softmax(-1).gather(-1, ids[1:, None]).squeeze(-1)
                found.append(torch.nn.functional.pad(known, (1, 0)))
        return torch.stack(found)

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        """(…, hidden) → (…, V) logits in fp32: what the model's own forward does, in one copy instead of three."""
        logits: torch.Tensor = self.model.lm_head(states).float()
        cap = self.model.final_logit_softcapping
        return logits.div_(cap).tanh_().mul_(cap) if cap else logits

    @torch.inference_mode()
    def _encode(self, places: Sequence[Place], cache: DynamicCache, start: int) -> None:
        for at, piece in _pieces(places):
            ids = [self._image_token if isinstance(place, str) else place for place in piece]
            self._read(torch.tensor([ids], device=self.device), cache, start + at, _runs(piece))

    def _read(
        self, ids: torch.Tensor, cache: DynamicCache, start: int, images: Sequence[tuple[int, str]] = ()
    ) -> torch.Tensor:
        """Reads ids (B, N) into a cache that already holds `start` ids; returns the encoder's states (B, N, hidden).

        `images` are the first positions and digests of the images to read; the batch must be of one then.
        """
        encoder, (rows, count) = self.model.model.encoder, ids.shape
        embeddings: torch.Tensor = encoder.get_input_embeddings()(ids)
        kinds = None
        if images:
            kinds = torch.zeros((rows, start + count), dtype=torch.long, device=self.device)
            for at, digest in images:
                end = at + self._images[digest].tokens
                embeddings[0, at:end] = self._look(self._images[digest]).to(embeddings.dtype)
                kinds[0, start + at : start + end] = 1
        positions = torch.arange(start, start + count, dtype=torch.int32, device=self.device).unsqueeze(0)
        masks = encoder.create_masks_for_generate(
            config=self.model.config,
            inputs_embeds=torch.empty((rows, count, 0), dtype=self.model.dtype, device=self.device),
            attention_mask=torch.ones((rows, start + count), dtype=torch.bool, device=self.device),
            position_ids=positions,
            mm_token_type_ids=kinds,
            **{CACHE: cache},
        )
        return self._encoded(embeddings, positions, masks, cache)

    def _encoded(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        masks: Mapping[str, torch.Tensor | None],
        cache: DynamicCache,
    ) -> torch.Tensor:
        """Encodes embeddings (B, N, hidden) at positions (1, N), appends to a cache, and returns states (B, N, hidden).

        `masks` by kind of layer: (B, 1, N, keys) bool, the keys that each position sees; None for all up to itself.
        """
        states: torch.Tensor = self.model.model.encoder(
            attention_mask=masks, position_ids=positions, inputs_embeds=embeddings, **{CACHE: cache}
        ).last_hidden_state
        return states

    def _look(self, image: Image) -> torch.Tensor:
        """The vision tower's output for an image, (tokens, hidden)."""
        patches, positions = (
            torch.tensor(array[None], device=self.device) for array in (image.patches, image.positions)
        )
        seen: torch.Tensor = self.model.model.encoder.get_image_features(
            patches, positions.long(), return_dict=True
        ).pooler_output
        return seen

    @torch.inference_mode()
    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        """(B, C) ids, and the last step's scaled logits (B, C, V) or None → logits (B, C, V) in fp32."""
        start = len(self.prefix.ids)
        positions = torch.arange(start, start + self.canvas_length, dtype=torch.int32, device=self.device)
        states: torch.Tensor = self.model.model(
            decoder_input_ids=canvas_ids,
            self_conditioning_logits=self_conditioning,
            decoder_attention_mask=_NO_PADDING,
            decoder_position_ids=positions.unsqueeze(0),
            **{CACHE: self.prefix.expanded(len(canvas_ids))},
        ).last_hidden_state
        return self._head(states)


def _placed(ids: Sequence[int], images: Sequence[Image], image_token: int) -> list[Place]:
    """The ids, with an image's digest at each of its positions."""
    places: list[Place] = list(ids)
    at = 0
    for number, image in enumerate(images, 1):
        at = next((i for i in range(at, len(ids)) if ids[i] == image_token), len(ids))
        end = next((i for i in range(at, len(ids)) if ids[i] != image_token), len(ids))
        if end - at != image.tokens:
            raise BadJob(f"image {number} takes {image.tokens} positions in the prompt, but has {end - at}")
        places[at:end] = [image.digest] * image.tokens
        at = end
    return places


def _runs(places: Sequence[Place]) -> list[tuple[int, str]]:
    """First position and digest of each image."""
    return [(at, p) for at, p in enumerate(places) if isinstance(p, str) and (at == 0 or places[at - 1] != p)]


def _pieces(places: Sequence[Place]) -> Iterator[tuple[int, Sequence[Place]]]:
    """Pieces in order, each with its first position: at most `PIECE` positions, and never a part of an image.

    All positions of an image attend to each other, including later ones.
    """
    at = 0
    while at < len(places):
        end = min(at + PIECE, len(places))
        while at < end < len(places) and isinstance(places[end], str) and places[end] == places[end - 1]:
            end -= 1
        if end == at:  # the image alone is longer than a piece
            end = next((i for i in range(at, len(places)) if places[i] != places[at]), len(places))
        yield at, places[at:end]
        at = end
