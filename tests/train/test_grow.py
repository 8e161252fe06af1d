"""A grown model computes what the small one does, and all that is new in it can learn."""

from typing import Any

import pytest
import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast

from dgtui.paths import embedded_dir
from dgtui.train import embedded, tokenizer
from dgtui.train.grow import grown
from dgtui.train.objective import losses
from dgtui.train.packed import PackedPass
from dgtui.train.recipe import Recipe
from dgtui.train.small_model import config as config_of


def small() -> tuple[DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast]:
    tokens = PreTrainedTokenizerFast.from_pretrained(embedded_dir())
    config: Any = config_of(tokens, embedded.SIZES)
    text = config.text_config
    text.hidden_size, text.intermediate_size = 128, 192
    text.num_hidden_layers, text.layer_types = 4, text.layer_types[:4]
    text.initializer_range = config.initializer_range = 0.2  # trained weights are also far above the norms' epsilon
    torch.manual_seed(1)
    return DiffusionGemmaForBlockDiffusion(config), tokens


def larger(tokens: PreTrainedTokenizerFast) -> DiffusionGemmaConfig:
    """Wider and deeper than the embedded model."""
    config = config_of(tokens, embedded.SIZES)
    text = config.text_config.to_dict()
    kinds = [*text["layer_types"], "sliding_attention", "full_attention"]
    full = text["per_layer_config"]["3"]
    layers = {str(at): full for at, kind in enumerate(kinds) if kind == "full_attention"}
    wider = {"hidden_size": 320, "intermediate_size": 640, "num_hidden_layers": len(kinds), "layer_types": kinds}
    config.text_config = type(config.text_config)(**text | wider | {"per_layer_config": layers})
    return config


def test_a_grown_model_has_the_same_logits_and_all_of_it_learns() -> None:
    before, tokens = small()
    after = grown(before, tokens, larger(tokens), tokens)
    (packed,) = embedded.packs(embedded_dir(), Recipe(embedded_dir(), parts=1, easy=0), 0, 0)
    packed = packed.rows(2)
    found = []
    for model in (before, after):
        through = PackedPass(model)
        with torch.no_grad():
            states = through.states(packed.ids, packed, through.embedded(packed.ids.flip(0)))
            found.append(through.logits(states)[packed.example >= 0])
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-4)

    assert after.config.text_config.num_hidden_layers > before.config.text_config.num_hidden_layers
    rate = torch.optim.SGD(after.parameters(), lr=0.1)
    for _ in range(3):
        rate.step()
        rate.zero_grad()
        losses(PackedPass(after), packed, torch.Generator().manual_seed(0)).total.backward()  # type: ignore[no-untyped-call]
    learning = {name: p.grad for name, p in after.named_parameters() if p.grad is not None}
    assert len(learning) > 100
    for name, gradient in learning.items():
        some = "expert" in name or "router" in name  # an expert that no token chooses does not learn
        assert (gradient != 0).float().mean() > (0.2 if some else 0.9), name


def test_new_tokens_start_as_the_mean_of_their_parts() -> None:
    before, tokens = small()
    wider = tokenizer.build(["The vagabond sat."] * 50, 400, ["Günther"])
    assert "Ġvagabond" in wider.get_vocab() and "Ġvagabond" not in tokens.get_vocab()
    model: Any = grown(before, tokens, larger(wider), wider)
    rows = model.get_input_embeddings().weight
    old: Any = before.get_input_embeddings()
    for text, token in ((" vagabond", "Ġvagabond"), ("Günther", "Günther")):
        parts = old.weight[tokens(text, add_special_tokens=False).input_ids]
        mine = rows[wider.convert_tokens_to_ids(token), : parts.shape[1]]
        assert len(parts) > 1 and torch.cosine_similarity(mine, parts.mean(0), dim=0) > 0.999
    assert torch.equal(rows[wider.eos_token_id, : parts.shape[1]], old.weight[tokens.eos_token_id])
    assert len(rows) == len(wider) and not rows[:, parts.shape[1] :].any()


def test_a_config_that_does_not_fit_is_refused() -> None:
    before, tokens = small()
    config = larger(tokens)
    config.text_config.layer_types = ["full_attention"] * 8
    with pytest.raises(ValueError, match="first layers"):
        grown(before, tokens, config, tokens)
    config = larger(tokens)
    config.text_config.intermediate_size = 64
    with pytest.raises(ValueError, match="has the shape"):
        grown(before, tokens, config, tokens)


def test_a_model_of_the_same_size_is_copied() -> None:
    before, tokens = small()
    old, new = before.state_dict(), grown(before, tokens, before.config, tokens).state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old if "vision" not in name)
