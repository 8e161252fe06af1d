"""Training data that users write: one JSON object per line, read and checked before anything is loaded.

    {"prompt": "…", "response": "…"}
    {"messages": [{"role": "user", "content": "…"}, {"role": "model", "content": "…"}, …]}
    {"text": "…"}

In a conversation, every reply of the model is learned, with the turns before it as prefix. Text is learned canvas by
canvas, and so are replies longer than a canvas.
"""

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dgtui.errors import InputRefused, reason
from dgtui.message import Message, Role
from dgtui.train.items import Item, random_spans

if TYPE_CHECKING:
    from dgtui.model.tokenizer import ModelTokenizer
    from dgtui.model_info import ModelInfo

ROLES: Final[Mapping[str, Role]] = {"system": "system", "user": "user", "model": "model", "assistant": "model"}
SPANS_SHARE: Final = 0.2
"""Share of the items in which only some spans are corrupted while the rest is pinned."""
ALL: Final = "lessons"
"""The name of all generators together."""
SHOWN: Final = 5
"""Most invalid lines that an error names."""


@dataclass(frozen=True, slots=True)
class Record:
    """A line: messages that end with the model's, or a text."""

    line: int
    messages: tuple[Message, ...] = ()
    text: str = ""
    free: tuple[tuple[int, int], ...] = ()
    """Ranges of the last reply that the model writes; the rest of it is pinned. Empty: it writes everything."""


def read(path: Path) -> list[Record]:
    """All records of a file; empty lines are skipped.

    Raises:
        InputRefused: The file cannot be read, or lines are not valid; the message names the lines.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputRefused(f"{path} is not UTF-8 (byte {error.start})", hint="convert it to UTF-8 first") from None
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {reason(error)}") from None
    found: list[Record] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_record(number, line))
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputRefused(
            f"{path}: {'; '.join(wrong[:SHOWN])}{more}",
            hint='each line must be {"prompt": …, "response": …}, {"messages": […]} or {"text": …}',
        )
    if not found:
        raise InputRefused(f"{path} contains no examples", hint="write one JSON object per line")
    return found


def generated(name: str, count: int, seed: int) -> list[Record]:
    """Examples of a lesson of the embedded model, or of all of them ("lessons")."""
    from dgtui.train.lessons import LESSONS, SHARES, mixture, stream

    rng = random.Random(f"{seed} {name}")
    endless = mixture(rng, "train", SHARES) if name == ALL else stream(LESSONS[name], rng, "train")
    return [
        Record(number, (*example.messages(), Message("model", example.response)), free=example.free)
        for number, example in enumerate(itertools.islice(endless, count), 1)
    ]


def _record(number: int, line: str) -> Record:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    match row:
        case {"messages": list(messages)}:
            return Record(number, _messages(messages))
        case {"prompt": str(prompt), "response": str(response)}:
            return Record(
                number, _messages([{"role": "user", "content": prompt}, {"role": "model", "content": response}])
            )
        case {"text": str(text)} if text.strip():
            return Record(number, text=text)
    raise ValueError(f"has {', '.join(sorted(row)) or 'no keys'}")


def _messages(rows: Sequence[Any]) -> tuple[Message, ...]:
    found: list[Message] = []
    for row in rows:
        role = ROLES.get(row.get("role", "")) if isinstance(row, dict) else None
        if role is None or not isinstance(row.get("content"), str):
            raise ValueError("a message needs a role (system, user or model) and a content")
        found.append(Message(role, row["content"]))
    if not any(message.role == "model" and message.content.strip() for message in found):
        raise ValueError("has no model reply to learn")
    return tuple(found)


def items(records: Sequence[Record], tokenizer: "ModelTokenizer", info: "ModelInfo", longest: int) -> list[Item]:
    """Every canvas of every record as an item; a prefix longer than `longest` is cut at its start."""
    made: list[Item] = []
    for record in records:
        if record.text:
            bos = [] if info.bos_id is None else [info.bos_id]
            made += _canvases(bos, tokenizer.encode(record.text), info, longest)
        for at, message in enumerate(record.messages):
            if message.role == "model" and message.content.strip():
                prefix = tokenizer.chat(list(record.messages[:at]), think=False)
                if record.free and at == len(record.messages) - 1:
                    made += _pinned(prefix, message.content, record.free, tokenizer, info)
                else:
                    made += _canvases(prefix, tokenizer.encode(message.content), info, longest)
    return made


def _pinned(
    prefix: list[int], text: str, free: Sequence[tuple[int, int]], tokenizer: "ModelTokenizer", info: "ModelInfo"
) -> Iterator[Item]:
    """One canvas with its pinned parts, which are encoded apart from the free ones; none if it does not fit."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    end = 0
    for first, last in free:
        ids += tokenizer.encode(text[end:first])
        new = tokenizer.encode(text[first:last])
        spans.append((len(ids), len(ids) + len(new)))
        ids, end = ids + new, last
    ids += tokenizer.encode(text[end:])
    if len(ids) < info.canvas_length:
        yield Item(tuple(prefix), (*ids, info.turn_end_id), tuple(spans))


def _canvases(prefix: list[int], reply: list[int], info: "ModelInfo", longest: int) -> Iterator[Item]:
    whole = [*reply, info.turn_end_id]
    for start in range(0, len(whole), info.canvas_length):
        before = [*prefix, *whole[:start]][-longest:]
        yield Item(tuple(before), tuple(whole[start : start + info.canvas_length]))


def with_spans(item: Item, rng: random.Random) -> Item:
    """The item unchanged, or sometimes as an infill."""
    if item.spans is not None or len(item.reply) < 4 or rng.random() >= SPANS_SHARE:
        return item
    return Item(item.prefix, item.reply, random_spans(rng, len(item.reply) - 1))


def split(found: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Training and validation items; at least one of each if there are two."""
    order = random.Random(f"{seed} split").sample(range(len(found)), len(found))
    held = min(max(round(share * len(found)), 1 if share > 0 else 0), len(found) - 1)
    validation = set(order[:held])
    return [x for i, x in enumerate(found) if i not in validation], [found[i] for i in sorted(validation)]


def stream(found: Sequence[Item], seed: int, step: int, rank: int, world: int, each: int) -> Iterator[Item]:
    """Items of one step, in a different order each epoch; depends only on the step, so a resumed run sees the same
    order.

    Args:
        each: Items that a process may use in a step; the steps' windows are consecutive.
    """
    at = (step * world + rank) * each
    while True:
        epoch, place = divmod(at, len(found))
        order = random.Random(f"{seed} epoch {epoch}").sample(range(len(found)), len(found))
        rng = random.Random(f"{seed} item {at}")
        for index in order[place:]:
            yield with_spans(found[index], rng)
            at += 1
