"""Key names: the ways to write a key, its name in Textual, and whether a terminal can send it.

A plain terminal sends characters, Ctrl with a letter, and the keys of VT terminals. Other keys (Ctrl+Enter,
Ctrl+Shift+P) need the Kitty keyboard protocol, which Textual requests and many terminals support. Keys that neither can
send ("shift+1", "ctrl+mouse") have no name here.
"""

import string
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

_MODIFIERS: Final = frozenset("alt ctrl hyper meta shift super".split())
_MOVES: Final = frozenset("up down left right home end pageup pagedown".split())
_EDITS: Final = frozenset("enter tab escape backspace delete insert".split())
_FUNCTIONS: Final = frozenset(f"f{number}" for number in range(1, 13))
_NAMED: Final = _MOVES | _EDITS | _FUNCTIONS | {"space"}

_OTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "esc": "escape", "return": "enter", "del": "delete", "ins": "insert", "spacebar": "space", "control": "ctrl",
        "pgup": "pageup", "page_up": "pageup", "pgdn": "pagedown", "pgdown": "pagedown", "page_down": "pagedown",
        "option": "alt", "cmd": "super", "command": "super",
    }
)  # fmt: skip

_SHORT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
     "plus_sign": "plus", "low_line": "underscore"}
)  # fmt: skip
"""Name in Unicode → name in Textual, where they differ."""

_BOTH: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"ctrl+space": ("ctrl+@", "ctrl+space"), "ctrl+at": ("ctrl+@", "ctrl+space")}
)
"""Keys with two names in Textual: one from a plain terminal, one with the Kitty protocol."""


def normal(key: str) -> tuple[str, ...]:
    """The names of a key in Textual, usually one; empty if no terminal sends it.

    Accepts "?" and "question_mark", "Ctrl+P", "pgup", "shift+r" (the same as "R") and so on.
    """
    text = key.strip() or key[:1]  # a blank means the space bar
    before, _, name = (text[:-2], "+", "+") if text == "+" or text.endswith("++") else text.rpartition("+")
    modifiers = [_OTHER_NAMES.get(word.strip().lower(), word.strip().lower()) for word in before.split("+") if before]
    if len(set(modifiers)) < len(modifiers) or not set(modifiers) <= _MODIFIERS:
        return ()
    known = _OTHER_NAMES.get(name.strip().lower(), name.strip().lower())
    if known in _NAMED:
        return _joined(modifiers, known)
    sign = name if len(name) == 1 else _sign(name)
    if sign is None or not sign.isprintable() or not (sign.isalnum() or _sign(_long_name(sign)) == sign):
        return ()
    if not modifiers:
        return (_name(sign),)
    if not sign.isalpha():
        # The result of Shift depends on the keyboard: "shift+1" may be "!" or "+"
        return () if "shift" in modifiers else _joined(modifiers, _name(sign))
    if modifiers == ["shift"]:
        return (sign.upper(),) if len(sign.upper()) == 1 else ()
    if sign.isupper() and "alt" in modifiers and "shift" not in modifiers:
        modifiers.append("shift")
    return _joined(modifiers, sign.lower())


def _joined(modifiers: Iterable[str], name: str) -> tuple[str, ...]:
    full = "+".join([*sorted(modifiers), name])
    return _BOTH.get(full, (full,))


def plain(key: str) -> bool:
    """Whether every terminal sends a key, given by a name from `normal`."""
    *modifiers, name = key.split("+")
    match modifiers:
        case []:
            return True
        case ["shift"] | ["ctrl"] if name == "f3":
            return False  # xterm sends the same sequence as a cursor position report
        case ["shift"]:
            return name in _MOVES | _FUNCTIONS | {"tab", "insert", "delete"}
        case ["ctrl"]:
            letters = set(string.ascii_lowercase) - set("him")  # these are backspace, tab and enter
            signs = {"@", "backslash", "right_square_bracket", "circumflex_accent", "underscore"}
            return name in letters | signs | _MOVES | _FUNCTIONS | {"delete"}
        case ["alt"] | ["alt", "shift"]:
            return len(name) == 1 and name.isalpha() and name not in "bf"  # these are ctrl+left and ctrl+right
    return False


def types(key: str) -> bool:
    """Whether a key, given by a name from `normal`, types or edits text in an input."""
    return "+" not in key and key != "escape" and key not in _FUNCTIONS | {"pageup", "pagedown", "insert"}


def shown(key: str) -> str:
    """A key for display: "[" instead of "left_square_bracket"."""
    *modifiers, name = key.split("+")
    return "+".join([*modifiers, name if len(name) == 1 or name in _NAMED else _sign(name) or name])


def _sign(name: str) -> str | None:
    """The character with a name such as "full_stop" or "euro_sign"."""
    return _characters().get(name.lower()) or _characters().get(name.lower().replace(" ", "_"))


def _name(sign: str) -> str:
    """The name of a character in Textual."""
    return sign if sign.isalnum() else _long_name(sign)


def _long_name(sign: str) -> str:
    name = unicodedata.name(sign, sign).lower().replace("-", "_").replace(" ", "_")
    return _SHORT_NAMES.get(name, name)


@cache
def _characters() -> Mapping[str, str]:
    """Characters of keyboards by name: letters, marks, currencies, arrows; but not 🐁, whose name is "mouse"."""
    signs = [chr(code) for code in range(0x20, 0x2200) if chr(code).isprintable()]
    return {_long_name(sign): sign for sign in signs}
