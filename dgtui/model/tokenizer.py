"""A checkpoint's tokenizer: chat turns to a prompt, replies folded apart, and all of `Vocabulary`. Light to import.

Control ids come from the chat template alone: markup that a person types, "<turn|>" included, stays text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from dgtui.errors import CorruptCheckpoint, EmptyPrompt, ImageRefused
from dgtui.message import Message, Role
from dgtui.model.shards import read_json
from dgtui.model.template import ChatTemplate, find_template
from dgtui.model.vocabulary import Vocabulary
from dgtui.text import decode_utf8

__all__ = ["Message", "ModelTokenizer", "Role", "Thought"]

_CHANNEL: Final = re.compile(r"[\w -]{1,32}")  # a name, and not a thought without one
_THINK, _THINK_END = b"<think>", b"</think>"


@dataclass(frozen=True, slots=True)
class Thought:
    """A reply, folded apart."""

    thought: bytes | None
    "what was thought, without its markup; None where no thought was begun"
    answer_ids: tuple[int, ...]
    "what is left to be read"


class ModelTokenizer(Vocabulary):
    """The tokenizer of one checkpoint."""

    def __init__(self, tokenizer: Tokenizer, tokens: Mapping[str, str], template: ChatTemplate) -> None:
        """For `load`. `tokens` names the beginning, the end and the padding, as `tokenizer_config.json` does."""
        super().__init__(tokenizer, template.source)
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
    def load(cls, folder: Path, template: str | None = None) -> "ModelTokenizer":
        """Reads `tokenizer.json`, `tokenizer_config.json` and the chat template beside or in it.

        Args:
            folder: The checkpoint's.
            template: The chat template of a folder that has none.

        Raises:
            CorruptCheckpoint: A file is missing or malformed; the message names it.
            ModelUnloadable: A vocabulary of a kind that is not known here.
        """
        config = read_json(folder / "tokenizer_config.json")
        source, file = find_template(folder, config, template)
        tokens = {key: text for key, value in config.items() if key.endswith("_token") and (text := _token(value))}
        return cls(read_tokenizer(folder / "tokenizer.json"), tokens, ChatTemplate(source, tokens, file))

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The prompt of a conversation, up to the start of the model's turn.

        Equal to `apply_chat_template` of transformers on contents without markup. Markup in a content is text, in the
        model's own turns too: a thought has to be folded away (`split_thought`) before a reply is put here. Where a
        message has `token_ids`, those stand in the prompt: what was generated is found again in the KV prefix.

        An image stands where the template puts it: the beginning of an image, the image's id as often as it has tokens,
        and its end, as transformers' `Gemma4Processor` has it. No other place of such a prompt holds the image's id.

        Raises:
            EmptyPrompt: No messages.
            ImageRefused: Vocabulary or template have no place for an image.
            InputRefused: The template does not take such a conversation.
        """
        if not messages:
            raise EmptyPrompt("the conversation has no messages")
        # Control strings in contents are swapped for a private character each that occurs nowhere else, so that the
        # template (which may trim, split or search contents) renders them like any letter. What is left of control
        # strings in the result is the template's; the text between them, contents swapped back, is encoded in one go,
        # so that merges across the edge of a content are those of an ordinary tokenization. A content that comes as
        # ids is one private character as a whole, and parts the text as control strings do.
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
            raise ImageRefused("this model's chat template has no place for images", hint="take another model")
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
        r"""Folds thoughts apart, by ids.

        In a channel, `<|channel>name\n…<channel|>`, a thought is folded, and what is final is the answer. Another name
        is shown as text with what follows it; in a draft it may be noise in place of "thought", and is folded.
        `<think>…</think>` at the start of an answer is a thought too.

        A thought without an end takes all that follows. An end without a beginning (a draft whose first places are
        not settled) ends a thought that began at the first place. Channels are looked for up to the turn's end: after
        it a draft may hold anything.

        Args:
            ids: A reply.
            draft: It is not finished.
        """
        reply = [int(i) for i in ids]
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
        """The ids inside and outside of channels, in order, without the marks."""
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
        """A channel's name and its text; of one that has not come to the end of its name, what that will be."""
        name, pieces = b"", self.pieces(channel)
        for at, piece in enumerate(pieces):
            name += piece
            if b"\n" in piece:
                return decode_utf8(name.partition(b"\n")[0]), channel[at + 1 :]
        return ("thought", []) if b"thought".startswith(name) else ("", channel)

    def _without_think(self, answer: list[int]) -> tuple[list[int], bytes | None]:
        """An answer less the `<think>` at its start; and what was thought, None if it has none."""
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
    """The library's tokenizer. Raises `CorruptCheckpoint` if the file is missing or malformed."""
    try:
        return Tokenizer.from_buffer(file.read_bytes())
    except OSError as error:
        raise CorruptCheckpoint(
            f"{file} cannot be read: {error.strerror}", hint="fetch the checkpoint again"
        ) from error
    except Exception as error:  # the library raises nothing narrower
        raise CorruptCheckpoint(f"{file} cannot be read: {error}", hint="fetch the checkpoint again") from error


def _swap(text: str, table: dict[str, str]) -> str:
    """`text` with every key of `table` replaced by its value, in one pass, earlier keys first."""
    if not table:
        return text
    return re.sub("|".join(map(re.escape, table)), lambda match: table[match.group()], text)


def _token(value: object) -> str | None:
    """A token of `tokenizer_config.json`: a string, or an object that holds one."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
