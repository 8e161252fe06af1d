"""The tokenizer and chat template of a GGUF file: from its folder, or from the file itself."""

from collections.abc import Mapping
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.gguf_file import GgufFile
from dgtui.model.shards import shown
from dgtui.model.template import ChatTemplate
from dgtui.model.tokenizer import ModelTokenizer

_CONTROL, _USER_DEFINED = 3, 4
# Kinds of entries (llama.cpp's token types): markup, and text that is matched before anything is merged.
_TOKENS: Final = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token"}


def tokenizer_of(file: GgufFile) -> ModelTokenizer:
    """The folder's tokenizer, if there is one, with the chat template of the folder or the file; else the file's own.

    Raises:
        CorruptCheckpoint: There is no tokenizer or no template.
        ModelUnloadable: The kind of vocabulary is not supported.
    """
    folder, template = file.path.parent, file.value("tokenizer.chat_template")
    if (folder / "tokenizer.json").exists() and (folder / "tokenizer_config.json").exists():
        return ModelTokenizer.load(folder, template if isinstance(template, str) else None)
    if not isinstance(template, str):
        raise CorruptCheckpoint(
            f"{shown(file.path.name)} has no chat template", hint="put chat_template.jinja into the same folder"
        )
    entries = file.value("tokenizer.ggml.tokens") or []
    ids = {own: file.value(f"tokenizer.ggml.{key}_token_id") for key, own in _TOKENS.items()}
    tokens = {own: entries[at] for own, at in ids.items() if isinstance(at, int) and at < len(entries)}
    return ModelTokenizer(_byte_fallback(file, entries), tokens, ChatTemplate(template, tokens, str(file.path)))


def _byte_fallback(file: GgufFile, entries: list[str]) -> Tokenizer:
    """BPE with byte fallback, like Gemma's vocabulary, from the entries and their merges, or else their scores."""
    vocabulary = {entry: at for at, entry in enumerate(entries)}
    merges = [tuple(merge.split(" ", 1)) for merge in file.value("tokenizer.ggml.merges") or []]
    if not merges:
        merges = _merges(vocabulary, file.value("tokenizer.ggml.scores") or [])
    if "<0x00>" not in vocabulary:
        raise ModelUnloadable(
            f"{shown(file.path.name)} has an unsupported kind of vocabulary",
            hint="put tokenizer.json into the same folder",
        )
    unknown = entries[int(file.value("tokenizer.ggml.unknown_token_id") or 0)]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token=unknown, ignore_merges=False)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    kinds = file.value("tokenizer.ggml.token_type") or []
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        own = [entry for entry, own_kind in zip(entries, kinds, strict=False) if own_kind == kind]
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(entry, normalized=False, special=special) for entry in own])
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """The merges that scores stand for: every way to build an entry from two others, the best score first."""
    found: list[tuple[float, int, int, str, str]] = []
    for entry, at in vocabulary.items():
        for cut in range(1, len(entry)):
            left, right = entry[:cut], entry[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[at], vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]
