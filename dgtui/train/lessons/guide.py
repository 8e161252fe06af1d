"""Questions about dgtui: one answer per intent, in many phrasings.

The keys in the answers come from the key bindings, so a changed binding changes the lesson.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from dgtui.train.lessons.example import DATA, Example, sentence
from dgtui.tui.key_names import shown
from dgtui.tui.keymap import COMMANDS

NAME = "about"

_DO = (
    "how do i {x}", "how do i {x}", "how can i {x}", "how to {x}", "is there a way to {x}", "can i {x}", "{x}",
    "what do i press to {x}", "which key lets me {x}", "i want to {x}", "how would i {x}", "what is the key to {x}",
    "is it possible to {x}", "{x} how", "where can i {x}", "what do i do to {x}", "how does one {x}",
    "tell me how to {x}",
    "i would like to {x}", "could you tell me how to {x}",
)  # fmt: skip
_WHAT = (
    "what is {x}", "what's {x}", "what does {x} mean", "explain {x}", "tell me about {x}", "{x}", "what about {x}",
    "what is the point of {x}", "can you explain {x}", "what is meant by {x}", "i do not understand {x}",
    "what's {x} for", "what is {x} for", "describe {x}", "meaning of {x}",
)  # fmt: skip
_KEY = ("what does {x} do", "what does the {x} key do", "what is {x} for", "what happens if i press {x}", "{x} key")
_OPENERS = ("", "", "", "", "", "", "please, ", "hey, ", "hi, ", "so, ", "and ", "quick question: ", "ok, ", "um, ")
_QUESTION = re.compile(r"(?:what|who|which|how|why|where|when|are|is|do|does|can|will|under|could)\b")
_KINDS = ("do", "what", "ask")
_SPELLINGS = {"i": "I", "gpu": "GPU", "cpu": "CPU", "json": "JSON", "diffusiongemma": "DiffusionGemma", "esc": "Esc"}


@dataclass(frozen=True, slots=True)
class Intent:
    """One question: its answer, its phrasings by kind, and the single-letter keys that the answer explains."""

    answer: str
    do: tuple[str, ...] = ()
    what: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def _key(name: str) -> str:
    """The key of a command, as people read it."""
    key = next(command.keys[0] for commands in COMMANDS.values() for command in commands if command.id == name)
    return shown(key) if len(shown(key)) == 1 else "+".join(part.capitalize() for part in shown(key).split("+"))


@cache
def intents() -> dict[str, Intent]:
    """All intents of the data file, the keys filled in."""
    found: dict[str, Intent] = {}
    fields: dict[str, str] = {}
    name = ""
    for line in [*(DATA / "guide.txt").read_text(encoding="utf-8").splitlines(), "= "]:
        if line.startswith("= "):
            if name:
                ids = re.findall(r"\{([a-z]+\.\w+)\}", fields["!"])
                answer = re.sub(r"\{([a-z]+\.\w+)\}", lambda m: _key(m[1]), fields["!"])
                keys = tuple(_key(command) for command in ids[:1] if command.startswith("canvas."))
                keys = tuple(key for key in keys if all(key not in other.keys for other in found.values()))
                split = {
                    kind: tuple(p.strip() for p in fields.get(kind, "").split("|") if p.strip()) for kind in _KINDS
                }
                found[name] = Intent(answer, split["do"], split["what"], split["ask"], keys)
            name, fields = line[2:].strip(), {}
        elif line.startswith("! "):
            fields["!"] = line[2:]
        elif line.strip() and not line.startswith("#"):
            kind, _, text = line.partition(":")
            fields[kind] = text
    return found


def phrasing(intent: Intent, rng: random.Random) -> str:
    """One of the ways to ask, in small letters."""
    kinds = [kind for kind in (*_KINDS, "keys") for _ in getattr(intent, kind)]
    match rng.choice(kinds):
        case "do":
            return rng.choice(_DO).replace("{x}", rng.choice(intent.do))
        case "what":
            return rng.choice(_WHAT).replace("{x}", rng.choice(intent.what))
        case "keys":
            return rng.choice(_KEY).replace("{x}", rng.choice(intent.keys))
        case _:
            return rng.choice(intent.ask)


def dressed(text: str, rng: random.Random) -> str:
    """A phrasing with an opener, capitals and a question mark, or without."""
    question = _QUESTION.match(text) is not None
    text = (rng.choice(_OPENERS) if question else "") + text
    if rng.random() < 0.35:
        return text + ("?" if question and rng.random() < 0.5 else "")
    if not re.search(r"\b(?:does|press|key|is) i\b", text):  # there, i is a key
        text = " ".join(_SPELLINGS.get(word, word) for word in text.split(" "))
    return sentence(text) + (rng.choice(("?", "?", "?", "")) if question else rng.choice((".", "")))


def make(rng: random.Random) -> Example:
    """A question in one of its phrasings, and the answer."""
    intent = rng.choice(list(intents().values()))
    return Example(NAME, dressed(phrasing(intent, rng), rng), intent.answer, expect={"equal": intent.answer})
