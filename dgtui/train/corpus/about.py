"""Questions about dgtui and its model: many phrasings of each question, one short answer.

The answers are facts about the program: whoever changes a key or a command changes its answer here. `make` dresses a
phrasing up (an opener, capitals, the question mark); `intent_of` undoes that, so a phrasing belongs to one intent.
"""

import random
import re
from functools import cache

from dgtui.train.corpus.about_answers import INTENTS
from dgtui.train.lessons.example import Example

NAME = "about"


_OPENERS = (
    "", "", "", "", "", "please, ", "please: ", "hey, ", "hi, ",
    "can you tell me: ", "so, ", "a question: ", "tell me: ", "and ",
)  # fmt: skip
_QUESTION = re.compile(r"(?:what|who|which|how|why|where|when|are|is|do|does|can|will|under)\b")


def _spellings() -> dict[str, str]:
    spellings = {"i": "I", "gpu": "GPU", "cpu": "CPU", "json": "JSON", "diffusiongemma": "DiffusionGemma"}
    return spellings | {
        "ctrl+k": "Ctrl+K",
        "ctrl+s": "Ctrl+S",
        "ctrl+j": "Ctrl+J",
        "esc": "Esc",
        "markdown": "Markdown",
    }


@cache
def _by_phrasing() -> dict[str, str]:
    return {phrasing: intent for intent, (_, phrasings) in INTENTS.items() for phrasing in phrasings}


def intent_of(prompt: str) -> str | None:
    """The intent a prompt asks for, whatever its dress, or None."""
    text = prompt.strip().rstrip("?.!").strip().lower()
    known = _by_phrasing()
    for opener in sorted(set(_OPENERS), key=len):
        if text.startswith(opener) and text[len(opener) :] in known:
            return known[text[len(opener) :]]
    return None


def _dress(phrasing: str, rng: random.Random) -> str:
    question = _QUESTION.match(phrasing) is not None
    text = (rng.choice(_OPENERS) if question else "") + phrasing
    if rng.random() < 0.3:
        return text + ("?" if question and rng.random() < 0.5 else "")
    # The key i is not the pronoun I: "what does i do" keeps its small letter.
    if " does i do" not in text:
        text = " ".join(_spellings().get(word, word) for word in text.split(" "))
    text = text[0].upper() + text[1:]
    return text + (rng.choice(("?", "?", "?", "")) if question else rng.choice((".", "")))


def make(rng: random.Random) -> Example:
    """A question about dgtui in one of its phrasings, and the one answer to it."""
    answer, phrasings = INTENTS[rng.choice(list(INTENTS))]
    return Example(NAME, _dress(rng.choice(phrasings), rng), answer)


def check(example: Example, reply: str) -> bool:
    """Whether `reply` is the one answer to the question."""
    intent = intent_of(example.prompt)
    return intent is not None and reply.strip() == INTENTS[intent][0]
