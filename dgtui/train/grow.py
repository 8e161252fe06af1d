"""A larger model that computes what a smaller one does, to continue training from it.

New hidden dimensions are zero everywhere at first, because the weights that write to them are zero. They are read with
random weights, so they get gradients. A new layer copies an earlier one and adds nothing at first. A token that the
small model does not have starts as the mean of its parts. After "Net2Net" (Chen et al., 2016).
"""

from typing import Any

import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast

_INTO_HIDDEN = ("o_proj.weight", "down_proj.weight", "down_proj")
"""Matrices whose results are added to the hidden states."""
_BEFORE = ("input_layernorm.weight", "pre_feedforward_layernorm.weight", "pre_feedforward_layernorm_2.weight",
           "post_feedforward_layernorm_1.weight", "post_feedforward_layernorm_2.weight", "decoder.norm.weight",
           "pre_norm.weight")  # fmt: skip
"""Norms whose results keep their size. The others scale what is added to hidden states, which grow with the width."""
_ADDS = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
_LAYERS = ("model.decoder.layers.", "model.encoder.language_model.layers.")


def grown(
    small: DiffusionGemmaForBlockDiffusion,
    small_tokenizer: PreTrainedTokenizerFast,
    config: DiffusionGemmaConfig,
    tokenizer: PreTrainedTokenizerFast,
) -> DiffusionGemmaForBlockDiffusion:
    """A model of `config` with the weights of a smaller one, in fp32. Its vision tower is new.

    Args:
        config: At least as wide and deep, with the same head sizes, experts and first layer types.
        tokenizer: Of the new model. Byte-level BPE, like the small one's.

    Raises:
        ValueError: The config does not fit the small model.
    """
    before: Any = small.config.text_config
    after: Any = config.text_config
    sources, copies = _sources(before.layer_types, after.layer_types)
    model = DiffusionGemmaForBlockDiffusion(config)
    wider = (after.hidden_size / before.hidden_size) ** 0.5
    old, new = small.state_dict(), model.state_dict()
    with torch.no_grad():
        for name, into in new.items():
            if "vision" in name or "embed_tokens" in name or "lm_head" in name:
                continue
            source, copied = _source(name, sources, copies)
            part = old[source].to(into.dtype)
            if part.ndim != into.ndim or any(a > b for a, b in zip(part.shape, into.shape, strict=True)):
                raise ValueError(f"{name} has the shape {tuple(into.shape)}, the small model's {tuple(part.shape)}")
            if name.endswith(_BEFORE):
                part = part / wider
            if "self_conditioning.down_proj" in name:
                part = part * wider
            if copied and name.endswith(_ADDS):
                part = torch.zeros_like(part)
            if name.endswith(_INTO_HIDDEN):
                into.zero_()
            into[tuple(slice(size) for size in part.shape)] = part
        embedding: Any = model.get_input_embeddings()
        rows = _rows(old["model.decoder.embed_tokens.weight"].float(), small_tokenizer, tokenizer)
        embedding.weight.zero_()
        embedding.weight[:, : rows.shape[1]] = rows
    model.tie_weights()
    return model


def _sources(before: list[str], after: list[str]) -> tuple[list[int], set[int]]:
    """The small model's layer for each layer, and the layers that are copies."""
    if after[: len(before)] != before:
        raise ValueError(f"the first layers are not of the types {', '.join(before)}")
    last = {kind: index for index, kind in enumerate(before)}
    return [*range(len(before)), *(last[kind] for kind in after[len(before) :])], set(range(len(before), len(after)))


def _source(name: str, sources: list[int], copies: set[int]) -> tuple[str, bool]:
    for start in _LAYERS:
        if name.startswith(start):
            index, _, rest = name.removeprefix(start).partition(".")
            return f"{start}{sources[int(index)]}.{rest}", int(index) in copies
    return name, False


def _rows(old: torch.Tensor, before: Any, after: Any) -> torch.Tensor:
    """Embeddings (V, H) of the new tokens, from the old ones (W, H): their own, or the mean of their parts, as long."""
    known, rows = before.get_vocab(), old.new_empty((len(after), old.shape[1]))
    for token, index in after.get_vocab().items():
        if token in known:
            rows[index] = old[known[token]]
            continue
        added = token in after.get_added_vocab()  # as text, the others as bytes
        ids = before.encode(token) if added else [part.id for part in before.backend_tokenizer.model.tokenize(token)]
        parts = old[ids]
        mean = parts.mean(0)
        rows[index] = mean * (parts.norm(dim=1).mean() / mean.norm())
    return rows
