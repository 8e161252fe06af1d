"""Builds the embedded model's tokenizer: byte-level BPE with Gemma 4's chat markup.

Any text survives encode → decode byte for byte. Digits are single tokens, so a grid has one token per cell. The space
before a capital letter is a separate token, so a name has the same id after a space, a quote or a line break and can be
copied from the prompt unchanged.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dgtui.model.bound_names import spans

SPECIAL = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>",
    "<|image>", "<image|>", "<|image|>",
)  # fmt: skip

PIECES = r" ?\p{Ll}+|\p{L}\p{Ll}*|\d|\n *| |[^\p{L}\d\n ]+"
"pieces that are never merged: words (lower-case ones with their space), digits, line breaks with indentation, symbols"

FREQUENT = 8
"""Number of times that an ordinary word with a capital occurs in the texts."""

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


def build(texts: Iterable[str], vocab_size: int, names: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocab_size` entries, including the special ones, all 256 bytes, and names as whole words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(names),
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=False) for name in names])
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


def words(texts: Iterable[str], names: Collection[str]) -> list[str]:
    """Capitalised words that are frequent in texts, such as "Translate", without the names of people and places."""
    counts = Counter(text[start:end] for text in texts for start, end in spans(text))
    return sorted(word for word, count in counts.items() if count >= FREQUENT and word not in names)


def nameless(text: str, kept: Collection[str]) -> str:
    """A text without the words that look like names, except for the kept ones."""
    for start, end in reversed([*spans(text)]):
        if text[start:end] not in kept:
            text = text[:start] + text[end:]
    return text


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save_pretrained(folder)
