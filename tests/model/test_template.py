"""Chat templates give the bytes that transformers gives, wherever a checkpoint keeps them."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SEEING_TEMPLATE, tokenizer
from test_tokenizer import GEMMA_TEMPLATE

from dgtui.errors import CorruptCheckpoint
from dgtui.message import Message
from dgtui.model.template import ChatTemplate, find_template
from dgtui.train import tokenizer as recipe

GENERATION = """\
{{- bos_token }}
{%- for message in messages %}
    {%- set label = message['role'] %}
    <|turn>{{ label }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
            {%- set label = 'inside' %}
{{ message['content'] }}<turn|>
        {%- endgeneration %}
    {%- else %}
{{ message['content'] }}<turn|>
    {%- endif %}{{ label }}
{% endfor %}
{%- if add_generation_prompt %}<|turn>model
{% endif %}"""
"""A template for training: what is to be learnt stands between two marks."""

LOOP = """{% for message in messages %}
{% if loop.index0 > 4 %}{% break %}{% endif %}
  {{ message.role | tojson }}: {{ {'text': message.content, 'think': enable_thinking} | tojson(indent=1) }}
{% endfor %}
{% if tools is none and documents is none %}no tools{% endif %}"""
"""With what transformers adds to Jinja."""

TALKS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello")],
    [("user", "a"), ("model", "b"), ("user", "c")],
    [("user", "  spaces \n and\ttabs  ")],
    [("user", '<b>&amp;</b> "quoted" {{ braces }} {% tags %}')],
    [("user", "Größe 東京 🙂")],
    [("user", ""), ("model", ""), ("user", "again")],
    [("user", "a\r\nb\n\n\nc")],
    [("user", "x" * 2000)],
    [("user", "1"), ("model", "2"), ("user", "3"), ("model", "4"), ("user", "5"), ("model", "6"), ("user", "7")],
    [("system", "s"), ("user", "u"), ("model", "# Title\n\n- item\n"), ("user", "more")],
    [("user", "a \u2028 b \x7f c")],
]


@pytest.mark.parametrize("template", [recipe.CHAT_TEMPLATE, GEMMA_TEMPLATE, SEEING_TEMPLATE, GENERATION, LOOP])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("think", [False, True])
def test_every_template_gives_the_bytes_of_transformers(template: str, talk: Any, think: bool) -> None:
    theirs = tokenizer()
    tokens = {key: str(value) for key, value in theirs.special_tokens_map.items() if isinstance(value, str)}
    ours = ChatTemplate(template, tokens, "a test").render([Message(role, text) for role, text in talk], think)
    turns = [{"role": "assistant" if role == "model" else role, "content": text} for role, text in talk]
    assert ours == theirs.apply_chat_template(
        turns, chat_template=template, tokenize=False, add_generation_prompt=True, enable_thinking=think
    )


def write(folder: Path, beside: str | None, inside: object, json_file: object = None) -> Path:
    config = {} if inside is None else {"chat_template": inside}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if beside is not None:
        (folder / "chat_template.jinja").write_text(beside)
    if json_file is not None:
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": json_file}))
    return folder


@pytest.mark.parametrize(
    ("beside", "inside", "json_file"),
    [
        ("right", "wrong", None),
        (None, "right", "wrong"),
        (None, [{"name": "tool_use", "template": "wrong"}, {"name": "default", "template": "right"}], None),
        (None, None, "right"),
    ],
)
def test_the_template_is_found_beside_the_config_or_in_it(
    beside: str | None, inside: object, json_file: object, tmp_path: Path
) -> None:
    folder = write(tmp_path, beside, inside, json_file)
    assert find_template(folder, json.loads((folder / "tokenizer_config.json").read_text()))[0] == "right"


@pytest.mark.parametrize("inside", [None, [], [{"name": "tool_use", "template": "x"}], 3])
def test_a_checkpoint_without_a_template_says_so(inside: object, tmp_path: Path) -> None:
    folder = write(tmp_path, None, inside)
    with pytest.raises(CorruptCheckpoint, match="no chat template"):
        find_template(folder, json.loads((folder / "tokenizer_config.json").read_text()))
