"""A tokenizer of the published size, written by rule: 262,144 entries, BPE with byte fallback, Gemma's layout of ids.

Its words are all runs of letters up to the size, so it is no good for prose, but the library loads, encodes and decodes
it like the real one: as many entries, merges and added tokens, in a file of the same kind.
"""

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path

from checkpoints import tiny_checkpoint

ENTRIES = 262_144
CONTROLS = {
    0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 98: "<|think|>", 100: "<|channel>", 101: "<channel|>",
    105: "<|turn>", 106: "<turn|>", 255_999: "<|image>", 258_880: "<|image|>", 258_882: "<image|>",
}  # fmt: skip
"""The markup of the chat, flagged special."""
RUNS = ["\n" * n for n in range(1, 32)] + ["▁" * n for n in range(2, 32)]
"""Whitespace that is looked for before anything is merged, from id 107 on."""
BYTES = 238
UNUSED = [at for at in (*range(5, 105), *range(256_000, ENTRIES)) if at not in CONTROLS]
"""Ids that Gemma left free: noise is drawn from them too. One in forty of all."""
_SCRIPTS = ((0x20, 0x7F), (0xA1, 0x250), (0x370, 0x530), (0x3040, 0x3100), (0x4E00, 0x9FA0), (0xAC00, 0xD7A4))

# Trims contents and strips thoughts with the means that Gemma 4's template uses.
GEMMA_TEMPLATE = """\
{%- macro strip_thinking(text) -%}
    {%- set ns = namespace(result='') -%}
    {%- for part in text.split('<channel|>') -%}
        {%- set ns.result = ns.result + part.split('<|channel>')[0] -%}
    {%- endfor -%}
    {{- ns.result | trim -}}
{%- endmacro -%}
{{- bos_token -}}
{%- set loop_messages = messages -%}
{%- if enable_thinking or messages[0]['role'] == 'system' -%}
    {{- '<|turn>system\\n' -}}
    {%- if enable_thinking -%}{{- '<|think|>\\n' -}}{%- endif -%}
    {%- if messages[0]['role'] == 'system' -%}
        {{- messages[0]['content'] | trim -}}
        {%- set loop_messages = messages[1:] -%}
    {%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if message['role'] not in ['user', 'assistant'] -%}
        {{- raise_exception('the system turn comes first') -}}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<|turn>' + role + '\\n' -}}
    {{- strip_thinking(message['content']) if role == 'model' else message['content'] | trim -}}
    {{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""


def _words() -> Iterator[str]:
    """Characters of some scripts, then every run of letters, also at the start of a word."""
    yield "▁"
    yield from (chr(at) for begin, end in _SCRIPTS for at in range(begin, end) if at not in (0x20, 0x7F))
    for size in itertools.count(2):
        for word in map("".join, itertools.product(string.ascii_lowercase, repeat=size)):
            yield word
            if word[0] == "a":
                yield "▁" + word[1:]


def write_tokenizer(folder: Path, size: int = ENTRIES) -> None:
    """`tokenizer.json` of as many entries, `tokenizer_config.json` and a chat template."""
    entries = dict(CONTROLS) | {4: "<mask>"} | dict(enumerate(RUNS, 107))
    entries |= {BYTES + byte: f"<0x{byte:02X}>" for byte in range(256)}
    entries |= {at: f"<unused{number}>" for number, at in enumerate(UNUSED)}
    entries = {at: entry for at, entry in entries.items() if at < size}
    free = (at for at in range(size) if at not in entries)
    taken = set(entries.values())
    words = (word for word in _words() if word not in taken)
    vocabulary = {entry: at for at, entry in entries.items()} | {
        word: at for at, word in zip(free, words, strict=False)
    }
    merges = [
        (left, right)
        for word, at in vocabulary.items()
        if at not in entries
        for left, right in {(word[:-1], word[-1:]), (word[:1], word[1:])}
        if left in vocabulary and right in vocabulary
    ]
    added = [
        {
            "id": at, "content": entries[at], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": at in CONTROLS,
        }
        for at in sorted(entries) if not BYTES <= at < BYTES + 256
    ]  # fmt: skip
    space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    (folder / "tokenizer.json").write_text(
        json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "pre_tokenizer": {
                "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                "vocab": vocabulary, "merges": merges,
            },
        }, ensure_ascii=False)
    )  # fmt: skip
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(GEMMA_TEMPLATE)


def real_vocabulary(folder: Path, *, canvas: int = 32) -> Path:
    """A small checkpoint of random weights with this tokenizer."""
    tiny_checkpoint(folder, vocab=ENTRIES, canvas=canvas, with_tokenizer=False)
    write_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"boi_token_id": 255_999, "image_token_id": 258_880, "eoi_token_id": 258_882}
    config["text_config"] |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    generation = json.loads((folder / "generation_config.json").read_text())
    generation |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": [1, 106]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder
