"""Evaluates the embedded model on hand-written prompts, none of which was used for training.

    python -m dgtui.train.own_words [--model NAME] [--show]

prints a table of how many replies of each kind are right, wrong but readable, and noise. Sudokus are recognised, and
their givens pinned, as in the program.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dgtui.message import Message
from dgtui.train import judge
from dgtui.train.lessons import guide, honest, turns
from dgtui.train.lessons.example import DATA
from dgtui.train.replies import Replier, Reply, in_processes


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt, its reply, and the verdict."""

    kind: str
    prompt: str
    reply: Reply
    verdict: judge.Verdict


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


def answers(part: int, parts: int, model: str | None) -> list[Answered]:
    """Every `parts`-th prompt from `part` on, with the model's own settings and seed 1, on one thread."""
    replier, found = Replier(model), []
    for row in prompts()[part::parts]:
        replier.tokenizer.forget_names()
        messages: list[Message] = []
        before = ""
        for user, written in row.get("history", ()):
            messages.append(Message("user", user))
            before = written if not written.startswith("(") else replier.reply(messages, 1).text
            messages.append(Message("model", before))
        reply = replier.reply([*messages, Message("user", row["prompt"])], 1)
        kind = {16: "4x4 Sudoku", 81: "9x9 Sudoku"}.get(len(row.get("puzzle", "")), row["kind"])
        found.append(Answered(kind, row["prompt"], reply, judge.verdict(row["expect"], reply.text, before)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; default: the embedded model")
    parser.add_argument("--show", action="store_true", help="print every prompt and reply")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, list[Answered]] = {}
    for answered in in_processes(args.processes, answers, args.model):
        found.setdefault(answered.kind, []).append(answered)
        if args.show:
            print(f"{answered.verdict:5}  {answered.kind}: {answered.prompt!r}\n       {answered.reply.text!r}")
    print("| kind | right | wrong | noise | prompts | mean steps |", "|---|---|---|---|---|---|", sep="\n")
    for kind, mine in found.items():
        counts = Counter(answered.verdict for answered in mine)
        shown = " | ".join(str(counts[verdict]) for verdict in ("right", "wrong", "noise"))
        print(f"| {kind} | {shown} | {len(mine)} | {fmean(answered.reply.steps for answered in mine):.1f} |")


if __name__ == "__main__":
    main()
