"""Draws the plots of docs/embedded-model.md (`pip install matplotlib`).

    python scripts/plot_training.py training LOG… docs/training.svg
    python scripts/plot_training.py steps TABLE docs/steps.svg

LOG is the output of `dgtui.train.embedded`. TABLE has a line for each limit of steps: the limit, and the share of right
replies of each task, as in "8 tales=0.91 json=0.95".
"""

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "dgtui", "font.size": 9}
from matplotlib import pyplot  # noqa: E402

REPORT = re.compile(r"step (\d+)/\d+ +diffusion ([\d.]+) .*corrupted right ([\d.]+)%")


def training(logs: list[Path], axes: Any) -> None:
    """Loss and accuracy against the step."""
    found = {int(m[1]): (float(m[2]), float(m[3])) for log in logs for m in REPORT.finditer(log.read_text())}
    steps = sorted(found)
    axes.plot(steps, [found[step][1] for step in steps], color="tab:blue")
    axes.set(xlabel="optimizer step", ylabel="corrupted tokens right, %", ylim=(0, 100))
    axes.yaxis.label.set_color("tab:blue")
    loss = axes.twinx()
    loss.plot(steps, [found[step][0] for step in steps], color="tab:orange")
    loss.set(ylabel="loss, nats per token", ylim=(0, 4))
    loss.yaxis.label.set_color("tab:orange")


def steps(tables: list[Path], axes: Any) -> None:
    """The share of right replies against the limit of steps."""
    rows = [line.split() for table in tables for line in table.read_text().splitlines()]
    series: dict[str, list[tuple[int, float]]] = {}
    for limit, *shares in rows:
        for name, _, share in (each.partition("=") for each in shares):
            series.setdefault(name, []).append((int(limit), 100 * float(share)))
    for name, points in series.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set(xlabel="most steps of a block", ylabel="right replies, %", ylim=(0, 100))
    axes.legend()


def main() -> None:
    plots = {"training": training, "steps": steps}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plot", choices=plots)
    parser.add_argument("source", nargs="+", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    figure, axes = pyplot.subplots(figsize=(6, 3))
    plots[args.plot](args.source, axes)
    figure.savefig(args.out, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
