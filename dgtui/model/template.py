"""A checkpoint's chat template, rendered as transformers renders it: Jinja in its immutable sandbox, same globals.

The template is code of whoever made the checkpoint: it sees strings only, and what it may not do ends in a typed error.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dgtui.errors import CorruptCheckpoint, InputRefused, UnsafeCheckpoint
from dgtui.message import Message


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes "<" and "&" for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _content(message: Message) -> str | list[dict[str, str]]:
    """A text; with images, the parts that transformers' processors take."""
    if not message.images:
        return message.content
    return [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.content}]


class ChatTemplate:
    """A compiled template.

    Args:
        source: The Jinja text.
        tokens: What the template may name besides the messages: `bos_token` and its like.
        file: Where the source comes from, for errors.

    Raises:
        CorruptCheckpoint: The source is not Jinja.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], file: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self.source = source
        self._tokens = dict(tokens)
        self._file = file
        try:
            self._template: Template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise CorruptCheckpoint(f"{file}, line {error.lineno}: {error.message}") from error

    def render(self, messages: Sequence[Message], think: bool) -> str:
        """The conversation with its markup, up to where the model's turn begins.

        Raises:
            InputRefused: The template does not take such a conversation.
            UnsafeCheckpoint: The template tried what the sandbox forbids.
        """
        # "assistant" is what callers of every template say; Gemma's turn it into "model" themselves.
        turns = [{"role": "assistant" if m.role == "model" else m.role, "content": _content(m)} for m in messages]
        try:
            return self._template.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                enable_thinking=think,
                **self._tokens,
            )
        except SecurityError as error:
            raise UnsafeCheckpoint(f"{self._file}: the chat template was stopped: {error}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise InputRefused(f"{self._file}: the chat template refuses this conversation: {error}") from error
