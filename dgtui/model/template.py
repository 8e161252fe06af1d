"""Renders a checkpoint's chat template as transformers does: Jinja in its immutable sandbox, with the same globals.

The template is untrusted code: it sees only strings, and a forbidden action raises a typed error.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dgtui.errors import CorruptCheckpoint, InputRefused, UnsafeCheckpoint
from dgtui.message import Message
from dgtui.model.shards import read_json


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


class _Generation(Extension):
    """`{% generation %}`, which marks text for training. Its body is rendered in its own scope."""

    tags = {"generation"}  # noqa: RUF012 (as the base class has it)

    def parse(self, parser: Parser) -> nodes.Node:
        """The body as a call block, as in transformers: variables set inside stay inside."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def find_template(folder: Path, config: Mapping[str, Any], otherwise: str | None = None) -> tuple[str, str]:
    """The source of a checkpoint's chat template, and the file that it is in.

    As in transformers, `chat_template.jinja` comes first, then the tokenizer's config; of several, "default" is used.

    Args:
        folder: The checkpoint's folder.
        config: Its tokenizer_config.json.
        otherwise: The template for a folder that has none.

    Raises:
        CorruptCheckpoint: There is no template, or it is not UTF-8.
    """
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_bytes().decode(), str(file)
        except UnicodeDecodeError as error:
            raise CorruptCheckpoint(f"{file} is not UTF-8") from error
        except OSError as error:
            raise CorruptCheckpoint(f"{file} cannot be read: {error.strerror}") from error
    source = _default(config.get("chat_template"))
    if source is not None:
        return source, str(folder / "tokenizer_config.json")
    file = folder / "chat_template.json"
    source = _default(read_json(file).get("chat_template")) if file.exists() else otherwise
    if source is None:
        raise CorruptCheckpoint(
            f"{folder} has no chat template: chat_template.jinja is missing", hint="download the checkpoint again"
        )
    return source, str(file)


def _default(template: object) -> str | None:
    """The template; of several, the one for use without tools; None if there is none."""
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict)]
        template = {entry.get("name"): entry.get("template") for entry in named}
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else None


def _content(message: Message) -> str | list[dict[str, str]]:
    """The text; with images, a list of parts as transformers' processors take it."""
    if not message.images:
        return message.content
    return [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.content}]


class ChatTemplate:
    """A compiled template.

    Args:
        source: The Jinja text.
        tokens: Other variables for the template: `bos_token` and the like.
        file: Where the source comes from, for errors.

    Raises:
        CorruptCheckpoint: The source is not Jinja.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], file: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
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
        """The conversation with its markup, up to the start of the model's turn.

        Raises:
            InputRefused: The template rejects the conversation.
            UnsafeCheckpoint: The template tried something that the sandbox forbids.
        """
        # Callers of any template say "assistant"; Gemma's templates turn it into "model".
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
            raise UnsafeCheckpoint(f"{self._file}: the chat template tried something forbidden: {error}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise InputRefused(f"{self._file}: the chat template rejects this conversation: {error}") from error
