"""Compares the speed of two versions of the trainer, step by step in turn, on the same items and OLD's shipped weights.

    git archive d5b62b9 dgtui | tar -x -C OLD
    python scripts/train_speed.py OLD
    python scripts/train_speed.py OLD --guess 1

Prints content tokens (prefix and reply, without padding and fill) per CPU second of one thread, the optimizer for the
matrices included. A step of each has as many parts as its recipe has by default, and cuts replies as the recipe does.
OLD is the first trainer: prefix and canvas apart, padded. It makes the guess of the self-conditioning in one step. The
new one makes it in up to three, which is more work; `--guess 1` compares the same work.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, STEPS = 6, 1

COMMON = """
import random, sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from transformers import DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast
from dgtui.train.muon import Muon
folder = Path(sys.argv[2])
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
model = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=torch.float32)
model.set_experts_implementation("eager")
model.train()
noise = torch.Generator().manual_seed(0)
embedding = model.get_input_embeddings().weight
muon = Muon([p for n, p in model.named_parameters() if "vision" not in n and p.ndim >= 2 and p is not embedding])
def measured(steps, step):
    step(); begun, seen = time.process_time(), 0
    for _ in range(steps):
        seen += step(); muon.step(); model.zero_grad(set_to_none=True)
    return seen / (time.process_time() - begun)
"""
OLD = """
from dgtui.train import embedded
from dgtui.train.items import batches
from dgtui.train.objective import losses
micro = batches(embedded.items(tokenizer, random.Random(5)), random.Random(5), embedded.MICRO_TOKENS, None, 0, 1)
def step():
    seen, parts = 0, next(micro)
    for part in parts:
        found = losses(model, part, noise)
        ((found.diffusion + 0.5 * found.encoder) / len(parts)).backward()
        seen += int(part.prefix_mask.sum() + (part.weight == 1).sum())
    return seen
"""
NEW = """
import json
from dgtui.train import objective
from dgtui.train.embedded import OPEN_SHARE
from dgtui.train.items import Item
from dgtui.train.objective import losses
from dgtui.train.packed import PackedPass, pack
from dgtui.train.recipe import Recipe
torch.set_flush_denormal(True)
objective.MOST_STEPS = int(sys.argv[3]) or objective.MOST_STEPS
def made():
    while True:
        for prefix, reply, spans in json.loads(Path(sys.argv[1]).read_text()):
            yield Item(tuple(prefix), tuple(reply), tuple(map(tuple, spans)) if spans else None)
items, through, draw = made(), PackedPass(model), random.Random(5)
def step():
    seen, parts = 0, Recipe(work=Path()).parts
    for _ in range(parts):
        packed = pack(items, 16, 256, 0, 1, 256, None, draw, OPEN_SHARE)
        (losses(through, packed, noise).total / parts).backward()
        seen += int(((packed.weight == 1.0) | ((packed.example >= 0) & ~packed.canvas)).sum())
    return seen
"""
ITEMS = """
import itertools, json
from dgtui.train import embedded
made = itertools.islice(embedded.items(tokenizer, random.Random(5)), 3000)
Path(sys.argv[1]).write_text(json.dumps([(i.prefix, i.reply, i.spans) for i in made]))
"""
ASKED = f"\nfor _ in sys.stdin: print(measured({STEPS}, step), flush=True)\n"


def child(tree: Path, code: str, items: Path, model: Path, guess: int) -> "subprocess.Popen[str]":
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", COMMON + code, str(items), str(model), str(guess)]
    return subprocess.Popen(command, env=env, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="folder of the old version")
    parser.add_argument("--guess", type=int, default=0, help="most steps of a guess; the recipe's if not given")
    args = parser.parse_args()
    old = args.old.resolve()
    items, model = old / "items.json", old / "dgtui" / "model" / "embedded"
    if child(old, ITEMS, items, model, 0).wait():
        raise SystemExit("the items could not be made")
    sides = {"old": child(old, OLD + ASKED, items, model, 0), "new": child(ROOT, NEW + ASKED, items, model, args.guess)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            assert side.stdin and side.stdout
            side.stdin.write("go\n")
            side.stdin.flush()
            speeds[name].append(float(side.stdout.readline()))
            print(f"{name} {speeds[name][-1]:,.0f}", file=sys.stderr, flush=True)
    for side in sides.values():
        side.kill()
    for name, found in speeds.items():
        each = ", ".join(f"{speed:,.0f}" for speed in found)
        print(f"{name}: {statistics.median(found):,.0f} content tokens per CPU second ({each})")
    ratios = [new / before for new, before in zip(speeds["new"], speeds["old"], strict=True)]
    print(f"new / old: {statistics.median(ratios):.2f} (of rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
