"""Predicts the time of a denoising step of the published model on several GPUs, from counted machine code.

    PYTHONPATH=. python tests/kernels/aot.py --json counts.json && python scripts/predict_step.py counts.json

Phases follow one another, so a step is the sum over phases of whatever takes longest in each: bytes, arithmetic, or, in
the experts, the instructions that decode. The machines' rates are assumptions (below), but for the H200's copying and
matrix speed, which were measured elsewhere. Nothing else is measured: latency, bank conflicts and tails are left out.
"""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPERTS, HIDDEN, WIDTH, TOP, LAYERS, CANVAS, VOCABULARY = 128, 2816, 704, 8, 30, 256, 262144
CONTEXT = 8192
SKEW = 0.7
"""Coefficient of variation of the experts' popularity: an assumption."""
LAUNCH_MS = 0.0018
"""Time from one kernel of a captured graph to the next: an assumption."""
LAUNCHES = 15 * LAYERS + 20
TOKENS = 17
"""Tokens that settle per step: the model card says 15 to 20."""
INTEGER_PIPE = {"PRMT", "LOP3", "SHF", "IADD3", "ISETP", "SEL", "LEA", "PLOP3", "VIADD", "F2FP", "SGXT", "VOTE"}
"""These run at half rate: 64 lanes of a multiprocessor per clock. Other instructions issue on 128."""
FORMATS = {"nf4": 0.5 + 4 / 64, "nf4-double": 0.5 + 1 / 64, "nvfp4": 0.5 + 1 / 16}
"""Bytes of a weight with its scales."""


@dataclass
class Machine:
    """A GPU: architecture, multiprocessors, clock in GHz, copying in TB/s, bf16 in TFLOP/s (large products)."""

    name: str
    arch: int
    multiprocessors: int
    clock: float
    copy: float
    bf16: float


MACHINES = (
    Machine("A100 80 GB", 80, 108, 1.41, 1.75, 250),
    Machine("RTX 4090", 89, 128, 2.52, 0.92, 150),
    Machine("RTX 5090", 120, 170, 2.41, 1.62, 190),
    Machine("H100 SXM", 90, 132, 1.75, 3.0, 798),
    Machine("H200", 90, 132, 1.75, 4.3, 788),
)


def tiles(rows: int, tokens: int = CANVAS, samples: int = 200) -> tuple[float, float]:
    """Average number of tiles of this many rows that the routes of `tokens` fill, and of experts that get tokens."""
    draw = random.Random(0)
    total, hit = 0, 0
    for _ in range(samples):
        popularity = [draw.gammavariate(1 / SKEW**2, 1) for _ in range(EXPERTS)]
        counts = [0] * EXPERTS
        for expert in draw.choices(range(EXPERTS), popularity, k=tokens * TOP):
            counts[expert] += 1
        total += sum(-(-count // rows) for count in counts)
        hit += sum(count > 0 for count in counts)
    return total / samples, hit / samples


def experts(machine: Machine, counts: dict[tuple[str, int], Any], kind: str) -> dict[str, float]:
    """Milliseconds of a step's experts, by what bounds them."""
    found = {"bytes": 0.0, "issue slots": 0.0, "integer pipe": 0.0, "matrix": 0.0}
    lanes = machine.multiprocessors * machine.clock * 1e9
    for name, weights in (("gate_up", 2 * HIDDEN * WIDTH), ("down", HIDDEN * WIDTH)):
        # The tile for 16 rows per expert in `tiles.TABLE`
        wanted = 16 if machine.arch in (86, 89, 120, 100) else 32
        case = counts[f"{name} {kind}, {wanted} rows", machine.arch]
        integer = case["issue_slots"] * sum(case["opcodes"].get(op, 0) for op in INTEGER_PIPE) / case["loop"]
        count, hit = tiles(wanted)
        decoded = count * weights * LAYERS
        found["bytes"] += hit * weights * LAYERS * FORMATS[kind] / machine.copy / 1e9
        found["issue slots"] += 1e3 * decoded * case["issue_slots"] / (128 * lanes)
        found["integer pipe"] += 1e3 * decoded * integer / (64 * lanes)
        found["matrix"] += 1e3 * decoded * wanted * 2 / (machine.bf16 * 1e12)
    return found


def rest(machine: Machine) -> dict[str, float]:
    """Milliseconds of the other phases, attention and MLP in bf16."""

    def longest(gigabytes: float, tflop: float) -> float:
        return max(gigabytes / machine.copy, tflop / machine.bf16 * 1e3)

    logits = CANVAS * VOCABULARY * 2 / 1e9
    embedding = VOCABULARY * HIDDEN * 2 / 1e9
    sliding = 25 * CANVAS * (1024 + CANVAS) * 16 * 256
    full = 5 * CANVAS * (CONTEXT + CANVAS) * 16 * 512
    return {
        "attention and MLP products": longest(2 * 1.65, 2 * 1.65e9 * CANVAS / 1e12),
        "attention": longest(0.38, 4 * (sliding + full) / 1e12),
        "head": longest(embedding, 2 * embedding / 2 * 1e9 * CANVAS / 1e12),
        "self-conditioning": longest(embedding, 2 * embedding / 2 * 1e9 * CANVAS / 1e12),
        "logits, written and read five times": 5 * logits / machine.copy,
        "launches": LAUNCHES * LAUNCH_MS,
    }


def prompt(machine: Machine, counts: dict[tuple[str, int], Any], tokens: int) -> dict[str, float]:
    """Milliseconds of the experts for this many prompt tokens at once: by the kernels, and by unpacking every layer to
    bf16 first."""
    lanes = machine.multiprocessors * machine.clock * 1e9
    found = {"kernels": 0.0, "unpacked": 0.0}
    for name, weights in (("gate_up", 2 * HIDDEN * WIDTH), ("down", HIDDEN * WIDTH)):
        rows = next(rows for rows in (64, 32) if (f"{name} nf4, {rows} rows", machine.arch) in counts)
        case = counts[f"{name} nf4, {rows} rows", machine.arch]
        integer = case["issue_slots"] * sum(case["opcodes"].get(op, 0) for op in INTEGER_PIPE) / case["loop"]
        count, hit = tiles(rows, tokens, 20)
        decoded = count * weights * LAYERS
        found["kernels"] += 1e3 * max(
            hit * weights * LAYERS * FORMATS["nf4"] / machine.copy / 1e12,
            decoded * case["issue_slots"] / (128 * lanes),
            decoded * integer / (64 * lanes),
            decoded * rows * 2 / (machine.bf16 * 1e12),
        )
        held = EXPERTS * weights * LAYERS
        used = tokens * TOP * weights * LAYERS
        found["unpacked"] += 1e3 * held * (FORMATS["nf4"] + 2) / machine.copy / 1e12
        found["unpacked"] += 1e3 * max(held * 2 / machine.copy / 1e12, used * 2 / (machine.bf16 * 1e12))
    return found


def main() -> int:
    report = json.loads(Path(sys.argv[1]).read_text())
    counts = {(case["name"], case["arch"]): case for case in report["compiled"]}
    for machine in MACHINES:
        others = rest(machine)
        print(f"{machine.name}: " + ", ".join(f"{name} {ms:.2f}" for name, ms in others.items()) + " ms")
        for kind in FORMATS:
            each = experts(machine, counts, kind)
            bound = max(each, key=lambda name: each[name])
            step = each[bound] + sum(others.values())
            floor = each["bytes"] + sum(others.values()) - others["launches"]
            figures = ", ".join(f"{name} {ms:.2f}" for name, ms in each.items())
            print(
                f"  {kind:11} experts {each[bound]:.2f} ms by {bound} ({figures}); floor {floor:.1f} ms, step"
                f" {step:.1f} ms, {TOKENS / step * 1e3:.0f} tokens/s at {TOKENS} a step"
            )
        for tokens in (1024, 4096, 16384):
            each = prompt(machine, counts, tokens)
            print(f"  {tokens:6} tokens of a prompt: " + ", ".join(f"{way} {ms:.0f} ms" for way, ms in each.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
