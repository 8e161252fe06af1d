"""Converts text and bytes to token ids and back, byte for byte. Supports two kinds of vocabulary: byte-level BPE (the
embedded model) and BPE with byte fallback (Gemma).

Text never produces control ids, whatever a user or a file contains; only the chat template places them.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tokenizers import Tokenizer

from dgtui.errors import ModelUnloadable
from dgtui.model.bound_names import BoundNames, Names
from dgtui.text import decode_utf8

_SPACE: Final = "\u2581"  # ▁ stands for a space in SentencePiece vocabularies
_PROBE: Final = ' a  b\n\n\t\r\né e\u0301 \ufb01 ½ "Xy" 1234 \0 👩\u200d💻 '


class Vocabulary:
    """The entries of a tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, markup: str, spare: Sequence[str] = (), words: Sequence[str] = ()) -> None:
        """Takes ownership of `tokenizer`, and turns off truncation, padding and the parsing of markup in text.

        Args:
            tokenizer: The checkpoint's tokenizer.
            markup: The source of the chat template, to find markup that the vocabulary does not flag as special.
            spare: The texts of tokens that names are bound to (see `bound_names`).
            words: Words that are never bound.

        Raises:
            ModelUnloadable: The kind of vocabulary is not supported, or it does not preserve text byte for byte.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # encodes special tokens in text like any other text
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._raw = {i: token.content.encode() for i, token in added.items()}
        controls = {
            token.content: i
            for i, token in added.items()
            # Runs of whitespace, which are added tokens in Gemma's vocabulary, are text even in a template.
            if token.special or (token.content in markup and token.content.strip(" \t\r\n" + _SPACE))
        }
        self._controls = dict(sorted(controls.items(), key=lambda item: -len(item[0])))
        self.special_ids = frozenset(controls.values())
        """Control ids (markup, padding, placeholders), which have no text."""
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        """Number of entries, including added ones."""
        self._spaced, self._to_bytes, byte_entry = _kind(tokenizer)
        self._known: dict[int, bytes] = {}
        tokens = {ids[0]: name for name in spare if len(ids := self._own(name)) == 1}
        self._names = Names(self._own, tokens, words)
        self.forget_names()
        byte_ids = [self._id_of(byte_entry(byte)) for byte in range(256)]
        self._byte_ids = [i for byte, i in enumerate(byte_ids) if i is not None and self._piece(i) == bytes([byte])]
        if len(self._byte_ids) < 256:
            raise ModelUnloadable("tokenizer.json: the vocabulary lacks some of the 256 bytes, so text would be lost")
        # Every encoding is checked. If this one fails, most would, and text would be encoded as single bytes.
        if self.decode_bytes(self._own(_PROBE)) != _PROBE.encode():
            raise ModelUnloadable("tokenizer.json: this tokenizer changes text, so a file would not be preserved")

    def _id_of(self, entry: str | None) -> int | None:
        found: int | None = self._tokenizer.token_to_id(entry) if entry else None
        return found

    def _own(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _ordinary(self, text: str) -> list[int]:
        return self._bound.encode(text)

    def _encode(self, text: str) -> list[int]:
        """The tokenizer's own encoding if it decodes to `text` byte for byte, else the nearest one that does.

        It does not for text that has a special meaning in the vocabulary ("▁", "<0x41>") or merges into a control id.
        """
        ids = self._ordinary(text)
        if self.decode_bytes(ids) == text.encode():
            return ids
        found = [sign for sign in (*self._controls, *([_SPACE] if self._spaced else ())) if sign in text]
        ids = []
        for part in re.split(f"({'|'.join(map(re.escape, found))})" if found else "(?!)", text):
            whole = [] if part in found else self._ordinary(part)
            ids += whole if self.decode_bytes(whole) == part.encode() else self._by_character(part)
        return ids

    def _by_character(self, text: str) -> Iterable[int]:
        for character in text:
            ids, data = self._ordinary(character), character.encode()
            yield from ids if self.decode_bytes(ids) == data else self.byte_ids(data)

    def forget_names(self) -> None:
        """Frees all spare tokens for other names. Ids from before have another text then."""
        self._bound = BoundNames(self._names, tuple(self._names.spare))

    def byte_ids(self, data: bytes) -> list[int]:
        """One id per byte: works for any bytes, but takes the most tokens."""
        return [self._byte_ids[byte] for byte in data]

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without control ids. `decode_bytes` of them is `text` in UTF-8.

        Unpaired surrogates, which UTF-8 cannot hold, become U+FFFD.
        """
        return self._encode(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))

    def _piece(self, token: int) -> bytes:
        if token in self._bound.texts:
            return self._bound.texts[token].encode()
        piece = self._known.get(token)
        if piece is None:
            if token in self._raw and not self._spaced:
                piece = self._raw[token]
            else:
                # An id without an entry has no text: vocabularies are padded.
                piece = self._to_bytes(self._tokenizer.id_to_token(token) or "") if token >= 0 else b""
            self._known[token] = piece
        return piece

    def pieces(self, ids: Iterable[int], *, specials: bool = False) -> list[bytes]:
        """The bytes of each id, possibly a part of a character; control ids are empty, unless `specials` names them."""
        return [
            self._piece(i) if i not in self.special_ids else self._raw[i] if specials else b"" for i in map(int, ids)
        ]

    def decode_bytes(self, ids: Iterable[int], *, specials: bool = False) -> bytes:
        """The bytes of `ids`, joined."""
        return b"".join(self.pieces(ids, specials=specials))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD. Sanitise it before showing it."""
        return decode_utf8(self.decode_bytes(ids))


def _byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _kind(tokenizer: Tokenizer) -> tuple[bool, Callable[[str], bytes], Callable[[int], str]]:
    """Whether "▁" is a space; an entry's bytes; and a byte's entry. Derived from the decoder that the file names."""
    decoder: dict[str, Any] = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {"type": "none"}
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [step["type"] for step in steps if step["type"] != "Fuse"]
    if kinds == ["ByteLevel"]:
        alphabet = _byte_alphabet()
        values = {character: byte for byte, character in enumerate(alphabet)}
        return False, lambda entry: bytes(values[c] for c in entry if c in values), alphabet.__getitem__
    space = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    if kinds == ["Replace", "ByteFallback"] and space in steps:
        byte_entry = re.compile("<0x([0-9A-F]{2})>")

        def to_bytes(entry: str) -> bytes:
            match = byte_entry.fullmatch(entry)
            return bytes([int(match[1], 16)]) if match else entry.replace(_SPACE, " ").encode()

        return True, to_bytes, "<0x{:02X}>".format
    raise ModelUnloadable(
        f"tokenizer.json has an unsupported decoder ({', '.join(kinds)})",
        hint="byte-level BPE and BPE with byte fallback are supported",
    )
