"""Evaluates the embedded model on hand-written prompts, none of which was used for training.

    python -m dgtui.train.own_words [--model NAME] [--show]

Prints a table of how many replies of each kind are right, wrong but readable, and noise. Sudokus are recognised, and
their givens pinned, as in the program.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dgtui.message import Message
from dgtui.steering import puzzles
from dgtui.train import judge
from dgtui.train.lessons import guide, honest, turns
from dgtui.train.lessons.example import DATA
from dgtui.train.replies import Replier


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt, its reply, and the verdict."""

    kind: str
    prompt: str
    reply: str
    verdict: judge.Verdict
    steps: int


def prompts() -> list[dict[str, Any]]:
    """The fixed prompts, with `expect` for `judge`."""
    found = []
    for line in (DATA / "own_words.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["expect"] = _expect(row)
        found.append(row)
    return found


def _expect(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("names", "words", "values", "asserts", "contains", "tale", "shorter", "longer", "any")
    expect: dict[str, Any] = {key: row[key] for key in keys if key in row}
    if row["kind"].startswith("tale") or expect.keys() & {"names", "words"}:
        expect["tale"] = True
    if row["kind"] == "sudoku":
        expect["sudoku"] = tuple(map(int, row["puzzle"]))
    if row["kind"] in ("greeting", "nonsense", "language", "outside"):
        thanks = [guide.intents()[name].answer for name in ("thanks", "bye", "who")]
        expect["any"] = [*honest.REPLIES, *thanks, turns.THANKS]
    return expect


def answers(model: str | None) -> Iterator[Answered]:
    """Runs all prompts, one after the other, with the model's own settings and seed 1."""
    replier = Replier(model)
    for row in prompts():
        messages: list[Message] = []
        before = ""
        for user, written in row.get("history", ()):
            messages.append(Message("user", user))
            before = written if not written.startswith("(") else replier.reply(messages, 1)[0]
            messages.append(Message("model", before))
        asked = puzzles.normalised([*messages, Message("user", row["prompt"])])
        reply, steps = replier.reply(asked, 1, replier.laid_out(row["prompt"]))
        yield Answered(row["kind"], row["prompt"], reply, judge.verdict(row["expect"], reply, before), steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; default: the embedded model")
    parser.add_argument("--show", action="store_true", help="print every prompt and reply")
    args = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    for answered in answers(args.model):
        counts.setdefault(answered.kind, Counter())[answered.verdict] += 1
        if args.show:
            print(f"{answered.verdict:5}  {answered.kind}: {answered.prompt!r}\n       {answered.reply!r}", flush=True)
    print("| kind | right | wrong | noise | prompts |", "|---|---|---|---|---|", sep="\n")
    for kind, found in counts.items():
        print(f"| {kind} | {found['right']} | {found['wrong']} | {found['noise']} | {found.total()} |")


if __name__ == "__main__":
    main()
