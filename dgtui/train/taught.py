"""The lessons as token ids: a step's items, drawn from the step's own random stream."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from dgtui.model.bound_names import BOUND_NAMES, BoundNames, Names
from dgtui.train.items import Item, random_cuts, random_spans
from dgtui.train.lessons import SHARES, Example, mixture
from dgtui.train.packed import SHORT_REPLY

LONGEST_PREFIX = 300
DOCUMENT_SHARE = 0.1
"share of tales, JSON and functions that are bare documents, cut anywhere"
CONTINUED_SHARE = 0.6
CUTS_SHARE = 0.8
"""share of these whose canvases are several short parts of the reply"""
SPANS_SHARE = {"tales": 0.2, "turns": 0.1, "prose": 1.0}
THINK_SHARE = SYSTEM_SHARE = 0.03
SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Answer in English.", "You are the model inside dgtui.")
THOUGHTS = {
    "tales": "The user wants a short tale.",
    "json": "The user wants the facts of a sentence as JSON.",
    "python": "The user wants a small Python function.",
    "sudoku": "The user wants a Sudoku solved.",
    "about": "The user asks about dgtui.",
    "turns": "The user wants something else after my last reply.",
    "edits": "The user wants a text changed.",
    "echo": "The user wants me to repeat a text.",
    "other": "The user asks for something I have not learned.",
}


class Encoder:
    """Turns lessons into items with one tokenizer.

    Args:
        continued: Share of the replies whose first part is already context, as in a later block; the encoder learns to
            continue them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, continued: float = CONTINUED_SHARE) -> None:
        self.tokenizer: Any = tokenizer
        self.continued = continued
        self.turn_end: Any = self.tokenizer.convert_tokens_to_ids("<turn|>")
        self.bos: Any = tokenizer.bos_token_id
        bound: Any = tokenizer.init_kwargs.get(BOUND_NAMES, {"spare": [], "words": []})
        self._spare = {self._own_ids(name)[0]: name for name in bound["spare"]}
        self._names = Names(self._own_ids, self._spare, bound["words"])
        self._bound = BoundNames(self._names, ())

    def _own_ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def ids(self, text: str) -> list[int]:
        """Ids of text, without added special tokens; names are bound as in the prompt of the current example."""
        return self._bound.encode(text)

    def prompt(self, example: Example, think: bool = False, system: str = "") -> list[int]:
        """Ids of the conversation up to the reply."""
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": turn.role, "content": turn.content} for turn in example.messages()]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=think
        )
        return self.ids(text)

    def reply(self, example: Example) -> tuple[list[int], tuple[tuple[int, int], ...]]:
        """Ids of the reply and the token ranges of its free parts; pinned and free parts are encoded separately."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        at = 0
        for first, last in example.free:
            ids += self.ids(example.response[at:first])
            new = self.ids(example.response[first:last])
            if spans and spans[-1][1] == len(ids):
                spans[-1] = (spans[-1][0], len(ids) + len(new))
            else:
                spans.append((len(ids), len(ids) + len(new)))
            ids += new
            at = last
        return ids + self.ids(example.response[at:]), tuple(spans)

    def item(self, example: Example, rng: random.Random) -> Item | None:
        """The item of an example, or None if it is too long.

        Only names that occur in the conversation are bound in the reply; in a bare document, all are.
        """
        self._bound = BoundNames(self._names, rng.sample(list(self._spare), len(self._spare)))
        if example.task == "prose" or (example.task in ("tales", "json", "python") and rng.random() < DOCUMENT_SHARE):
            reply, spans = self.reply(example)
            cut = rng.randint(0, len(reply) - 1) if rng.random() < 0.5 else 0
            prefix, reply = [self.bos, *reply[:cut]], reply[cut:]
            share = 0.8 if example.task != "prose" else 1.0
        else:
            think = example.task in THOUGHTS and not example.free and rng.random() < THINK_SHARE
            system = rng.choice(SYSTEMS) if rng.random() < SYSTEM_SHARE else ""
            prefix = self.prompt(example, think, system)
            self._bound.full = True
            reply, spans = self.reply(example)
            if think:
                reply = self.ids(f"<|channel>thought\n{THOUGHTS[example.task]}<channel|>") + reply
            share = SPANS_SHARE.get(example.task, 0.08)
        if len(prefix) > LONGEST_PREFIX or len(reply) > 254:
            return None
        if not spans and rng.random() < share:
            spans = random_spans(rng, len(reply))
        if not spans and len(reply) >= SHORT_REPLY and rng.random() < self.continued:
            if rng.random() < CUTS_SHARE:
                return Item(tuple(prefix), (*reply, self.turn_end), cuts=random_cuts(rng, len(reply) + 1))
            cut = rng.randint(0, len(reply))
            prefix, reply = [*prefix, *reply[:cut]], reply[cut:]
        return Item(tuple(prefix), (*reply, self.turn_end), spans or None)

    def items(self, rng: random.Random, shares: Mapping[str, int] = SHARES) -> Iterator[Item]:
        """Endless items of the training side, of lessons in these shares."""
        for example in mixture(rng, "train", shares):
            item = self.item(example, rng)
            if item is not None:
                yield item
