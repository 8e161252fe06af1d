"""What ships beside the embedded model, in its folder: a model for 9×9 Sudoku, and adapters for edits and tales.

The Sudoku model has the embedded model's architecture and ids, but far fewer weights, and only the first ids: digits,
line break and end among them. It has no tokenizer of its own. The adapters change the embedded model itself.

None of them is used if the user has added an adapter, which may have been trained on the same prompts.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dgtui.model import adapter
from dgtui.model.catalog import solver_of
from dgtui.model.loader import LoadedModel, LoadOptions, load


def sudoku_model(loaded: LoadedModel) -> LoadedModel | None:
    """The Sudoku model in the folder of a loaded one, on the same device; None if there is none.

    Raises the errors of `load`.
    """
    checkpoint = solver_of(loaded.checkpoint)
    if checkpoint is None or loaded.adapted:
        return None
    options = LoadOptions(str(loaded.device), loaded.dtype, vision=False, decoded=True, tokenizer=loaded.tokenizer)
    found = load(checkpoint, options)
    base: Any = loaded.model
    extend(found.model, base.config.text_config.vocab_size)
    return found


def adapted_model(loaded: LoadedModel, name: str) -> LoadedModel | None:
    """A loaded model with the adapter of this name in its folder; None if there is none.

    Raises the errors of `adapter.read` and `adapter.with_adapter`.
    """
    folder = loaded.checkpoint.path / name
    if loaded.adapted or not folder.is_dir():
        return None
    return replace(loaded, model=adapter.with_adapter(loaded.model, adapter.read(folder)), adapted=True)


def extend(model: Any, size: int) -> None:
    """Gives a model a larger vocabulary.

    Each new id is a copy of one in the second half of its own. In training these were only noise.
    """
    decoder = model.model.decoder
    weight: torch.Tensor = decoder.embed_tokens.weight
    own, half = len(weight), len(weight) // 2
    ids = torch.arange(size, device=weight.device)
    rows = torch.where(ids < own, ids, half + ids % half)
    decoder.embed_tokens.weight = model.lm_head.weight = nn.Parameter(weight[rows], requires_grad=False)
    model.config.text_config.vocab_size = size
