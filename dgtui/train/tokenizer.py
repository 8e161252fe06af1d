"""Builds the embedded model's tokenizer: byte-level BPE with Gemma 4's chat markup.

Any text survives encode → decode byte for byte. Digits are single tokens, so a grid has one token per cell. The space
before a capital letter is a separate token, so a name has the same ids after a space, a quote or a line break and can
be copied from the prompt unchanged.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dgtui.model.bound_names import BOUND_NAMES, spans

SPECIAL = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>",
    "<|image>", "<image|>", "<|image|>",
)  # fmt: skip

PIECES = r" ?\p{Ll}+|\p{L}\p{Ll}*|\d|\n *| |[^\p{L}\d\n ]+"
"pieces that are never merged: words (lower-case ones with their space), digits, line breaks with indentation, symbols"

FREQUENT = 8
"Number of times that a capitalised word occurs in the texts, if it is no name"

# Gemma 4's turns. Thoughts of earlier replies are left out.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- set system = messages[0]['content'] if messages and messages[0]['role'] == 'system' else '' -%}
{%- if system or enable_thinking | default(false) -%}
<|turn>system
{% if enable_thinking | default(false) %}<|think|>{% endif %}{{ system }}<turn|>
{% endif -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
<|turn>{{ role }}
{% if role == 'model' and '<channel|>' in message['content'] -%}
{{ message['content'].split('<channel|>')[-1] }}
{%- else -%}
{{ message['content'] | trim }}
{%- endif %}<turn|>
{% endfor -%}
{%- if add_generation_prompt | default(false) -%}
<|turn>model
{% endif -%}
"""


def build(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocab_size` entries, including the special ones and all 256 bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=list(SPECIAL[5:]),
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def bind_names(tokenizer: PreTrainedTokenizerFast, spare: Iterable[str], names: Collection[str],
               texts: Iterable[str]) -> None:  # fmt: skip
    """Makes the tokenizer bind names (see `bound_names`).

    Args:
        spare: Given names; those that are single tokens become spare tokens.
        names: Names of people and places. Other capitalised words that are frequent in `texts` are never bound.
    """
    tokens: Any = tokenizer
    counts = Counter(text[start:end] for text in texts for start, end in spans(text))
    tokenizer.init_kwargs[BOUND_NAMES] = {
        "spare": [name for name in spare if len(tokens.tokenize(name)) == 1],
        "words": sorted(word for word, count in counts.items() if count >= FREQUENT and word not in names),
    }


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save_pretrained(folder)
