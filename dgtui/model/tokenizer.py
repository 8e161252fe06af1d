"""A checkpoint's tokenizer: builds prompts from chat turns, separates thoughts from answers. Imports nothing heavy.

Control ids come only from the chat template: markup that a user types, including "<turn|>", stays text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tokenizers import Tokenizer

from dgtui.errors import CorruptCheckpoint, EmptyPrompt, ImageRefused
from dgtui.message import Message, Role
from dgtui.model import bound_names
from dgtui.model.shards import read_json
from dgtui.model.template import ChatTemplate, find_template
from dgtui.model.vocabulary import Vocabulary
from dgtui.text import decode_utf8

__all__ = ["Message", "ModelTokenizer", "Role", "Thought"]

_CHANNEL: Final = re.compile(r"[\w -]{1,32}")  # a name; longer text is a thought without one
_THINK, _THINK_END = b"<think>", b"</think>"


@dataclass(frozen=True, slots=True)
class Thought:
    """A reply, split into thought and answer."""

    thought: bytes | None
    "the thought, without its markup; None if there is none"
    answer_ids: tuple[int, ...]
    "the answer"


class ModelTokenizer(Vocabulary):
    """The tokenizer of one checkpoint."""

    def __init__(
        self, tokenizer: Tokenizer, tokens: Mapping[str, str], template: ChatTemplate, spare: Sequence[str] = (),
        words: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """For `load`. `tokens` names the bos, eos and padding tokens, as in `tokenizer_config.json`."""
        super().__init__(tokenizer, template.source, spare, words)
        self._template = template
        self.bos_id = self._id_of(tokens.get("bos_token"))
        self.eos_id = self._id_of(tokens.get("eos_token"))
        self.pad_id = self._id_of(tokens.get("pad_token"))
        self.turn_end_id = self._id_of("<turn|>")
        self._image_token = tokens.get("image_token", "<|image|>")
        around = [tokens.get("boi_token", "<|image>"), self._image_token, tokens.get("eoi_token", "<image|>")]
        self._image = [self._id_of(token) for token in around]
        self._channel = (self._id_of("<|channel>"), self._id_of("<channel|>"))

    @classmethod
    def load(cls, folder: Path, template: str | None = None) -> Self:
        """Reads `tokenizer.json`, `tokenizer_config.json` and the chat template.

        Args:
            folder: The checkpoint's folder.
            template: The chat template for a folder that has none.

        Raises:
            CorruptCheckpoint: A file is missing or malformed; the message names it.
            ModelUnloadable: The kind of vocabulary is not supported.
        """
        config = read_json(folder / "tokenizer_config.json")
        source, file = find_template(folder, config, template)
        tokens = {key: text for key, value in config.items() if key.endswith("_token") and (text := _token(value))}
        chat = ChatTemplate(source, tokens, file)
        return cls(read_tokenizer(folder / "tokenizer.json"), tokens, chat, **bound_names.read(config))

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The prompt of a conversation, up to the start of the model's turn.

        Equal to `apply_chat_template` of transformers on contents without markup. Markup in a content is text, in the
        model's own turns too, so remove thoughts (`split_thought`) before passing a reply. If a message has
        `token_ids`, the prompt uses them, so a generated reply is found again in the KV cache.

        An image is placed by the template: start of image, the image id once per token, end of image, as in
        transformers' `Gemma4Processor`. No other position of such a prompt holds the image id.

        Raises:
            EmptyPrompt: No messages.
            ImageRefused: The vocabulary or the template does not support images.
            InputRefused: The template rejects the conversation.
        """
        if not messages:
            raise EmptyPrompt("the conversation has no messages")
        # Each control string in a content is replaced by a private character that occurs nowhere else, so the
        # template (which may trim, split or search contents) treats it as a letter. Control strings that remain in the
        # result come from the template. The text between them, with contents restored, is encoded in one piece, so
        # merges across the edge of a content are those of an ordinary tokenization. A content given as ids is a single
        # private character, and divides the text like a control string.
        contents = "".join(m.content for m in messages)
        taken = {*contents, *self._template.source}
        free = (c for c in map(chr, range(0xF0000, 0xFFFFE)) if c not in taken)
        marks = {control: next(free) for control in self._controls if control in contents}
        images = [image for m in messages for image in m.images]
        meant = {self._image[1]} if images else set()
        written = {next(free): tuple(i for i in m.token_ids if i not in meant) for m in messages if m.token_ids}
        names = iter(written)
        rendered = self._template.render(
            [
                Message(m.role, next(names) if m.token_ids else _swap(m.content, marks), images=m.images)
                for m in messages
            ]
            if marks or written
            else messages,
            think,
        )
        fixed = {control: (self._controls[control],) for control in self._controls if control in rendered} | written
        back = {mark: control for control, mark in marks.items()}
        ids: list[int] = []
        parts = re.split(f"({'|'.join(map(re.escape, fixed))})" if fixed else "(?!)", rendered)
        if images and (None in self._image or parts.count(self._image_token) != len(images)):
            raise ImageRefused("this model's chat template does not support images", hint="use another model")
        shown = iter(images)
        for part in parts:
            if images and part == self._image_token:
                ids += self._expanded(next(shown).tokens)
            elif part in fixed:
                ids += fixed[part]
            elif part:
                ids += self.encode(_swap(part, back))
        return ids

    def _expanded(self, tokens: int) -> list[int]:
        begin, image, end = (i for i in self._image if i is not None)
        return [begin, *[image] * tokens, end]

    def split_thought(self, ids: Iterable[int], *, draft: bool = False) -> Thought:
        r"""Separates thoughts from the answer, by ids.

        In a channel, `<|channel>name\n…<channel|>`, "thought" is a thought and "final" is the answer. Any other name is
        shown as text, with its content; in a draft it may be noise in place of "thought", and counts as a thought.
        `<think>…</think>` at the start of an answer is a thought too.

        A thought without an end extends to the end. An end without a start (a draft whose first positions are not
        settled) ends a thought that started at the first position. Channels count only up to the end of the turn:
        after it a draft may hold anything.

        Args:
            ids: A reply.
            draft: Whether the reply is unfinished.
        """
        reply = [int(i) for i in ids]
        if not draft:
            self._bound.keep(reply)
        ends = {self.turn_end_id, self.eos_id} - {None}
        end = next((at for at, i in enumerate(reply) if i in ends), len(reply))
        answer: list[int] = []
        thoughts: list[bytes] = []
        for inside, part in self._channels(reply[:end]):
            name, text = self._named(part) if inside else ("final", part)
            if name == "final":
                answer += text
            elif name == "thought" or draft or not _CHANNEL.fullmatch(name):
                thoughts.append(self.decode_bytes(text if name == "thought" else part))
            else:
                answer += part
        answer, thought = self._without_think(answer)
        if thought is not None:
            thoughts.append(thought)
        joined = b"\n".join(filter(None, thoughts)) if thoughts else None
        return Thought(joined, (*answer, *reply[end:]))

    def _channels(self, reply: list[int]) -> Iterator[tuple[bool, list[int]]]:
        """The ids inside and outside of channels, in order, without the channel marks."""
        opens, closes = self._channel
        part: list[int] = []
        inside, seen = False, False
        for i in reply:
            if i == opens and not inside:
                yield False, part
                inside, seen, part = True, True, []
            elif i == closes:
                yield inside or not seen, part
                inside, seen, part = False, True, []
            else:
                part.append(i)
        yield inside, part

    def _named(self, channel: list[int]) -> tuple[str, list[int]]:
        """A channel's name and its text; for an incomplete name, the name that it will become."""
        name, pieces = b"", self.pieces(channel)
        for at, piece in enumerate(pieces):
            name += piece
            if b"\n" in piece:
                return decode_utf8(name.partition(b"\n")[0]), channel[at + 1 :]
        return ("thought", []) if b"thought".startswith(name) else ("", channel)

    def _without_think(self, answer: list[int]) -> tuple[list[int], bytes | None]:
        """An answer without a `<think>` part at its start, and that thought; None if there is none."""
        pieces = self.pieces(answer, specials=True)
        text = b"".join(pieces)
        if not text.lstrip().startswith(_THINK):
            return answer, None
        thought, _, _ = text.lstrip().removeprefix(_THINK).partition(_THINK_END)
        end = text.find(_THINK_END)
        start = 0
        kept: list[int] = []
        for token, piece in zip(answer, pieces, strict=True):
            if end >= 0 and start >= end + len(_THINK_END) and (kept or piece.strip()):
                kept.append(token)
            start += len(piece)
        return kept, thought.strip()


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of `tokenizer.json`. Raises `CorruptCheckpoint` if the file is missing or malformed."""
    try:
        return Tokenizer.from_buffer(file.read_bytes())
    except OSError as error:
        raise CorruptCheckpoint(
            f"{file} cannot be read: {error.strerror}", hint="download the checkpoint again"
        ) from error
    except Exception as error:  # the library raises no narrower class
        raise CorruptCheckpoint(f"{file} cannot be read: {error}", hint="download the checkpoint again") from error


def _swap(text: str, table: dict[str, str]) -> str:
    """`text` with every key of `table` replaced by its value, in one pass, earlier keys first."""
    if not table:
        return text
    return re.sub("|".join(map(re.escape, table)), lambda match: table[match.group()], text)


def _token(value: object) -> str | None:
    """A token of `tokenizer_config.json`: a string, or an object that holds one."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
