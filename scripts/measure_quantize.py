"""Measures quantizing: a random checkpoint of the real geometry, with fewer layers, is quantized and loaded again.

    PYTHONPATH=. python scripts/measure_quantize.py [--layers 3] [--work FOLDER]

Three layers make 7.6 GB, with the real model's largest tensors. Printed are the peaks of anonymous memory (`RssAnon`,
looked at every 2 ms: mapped files do not count), the bound of the largest tensor three times and 2 GB, and the times.
Needs 12 GB of disk.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / "tests" / "data" / "diffusiongemma-26B-A4B-it" / "config.json"

MEASURED = """
import sys
from pathlib import Path
import torch
from dgtui.model.offline import go_offline
go_offline()
import transformers.models.diffusion_gemma.modeling_diffusion_gemma
from dgtui.model import catalog, quantized, weights
from dgtui.model.geometry import read_geometry
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import Packing, held_formats
from dgtui.model.skeleton import lay_out
print("ready", flush=True)
sys.stdin.readline()
opened = open_checkpoint(catalog.resolve(sys.argv[2]))
if sys.argv[1] == "quantize":
    quantized.quantize(opened, Path(sys.argv[3]), device="cpu")
else:
    packing = Packing()
    model = lay_out(read_geometry(opened.config), held_formats(opened.tensors, packing), torch.bfloat16)
    with weights.Files(opened) as source:
        weights.fill(model, source, packing, torch.device("cpu"))
"""


def write(folder: Path, layers: int) -> int:
    """Writes a random checkpoint in bfloat16, one file per large tensor; returns the bytes of its largest tensor."""
    from dgtui.model.geometry import read_geometry
    from dgtui.model.random_weights import RandomWeights
    from dgtui.model.weights import whole

    folder.mkdir()
    config = json.loads(REAL.read_text())
    config["text_config"]["num_hidden_layers"] = layers
    kinds = ["sliding_attention"] * (layers - 1) + ["full_attention"]
    config["text_config"]["layer_types"] = kinds
    (folder / "config.json").write_text(json.dumps(config))
    source = RandomWeights(read_geometry(config), torch.device("cpu"))
    placed: dict[str, str] = {}
    held: dict[str, torch.Tensor] = {}
    largest = 0

    def flush() -> None:
        name = f"model-{len(set(placed.values())) + 1:05}.safetensors"
        save_file(held, folder / name)
        placed.update(dict.fromkeys(held, name))
        held.clear()

    for name, entry in source.tensors.items():
        held[name] = whole(source, name, torch.device("cpu"), torch.bfloat16)
        largest = max(largest, entry.size)
        if sum(tensor.nbytes for tensor in held.values()) > 500_000_000:
            flush()
    flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return largest


def measured(*args: object) -> tuple[float, int]:
    """Seconds and bytes that one step takes in a separate process, without the memory of its libraries."""
    command = [sys.executable, "-c", MEASURED, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        before, most, began = anonymous(process.pid), 0, time.perf_counter()
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.002)
    assert process.returncode == 0
    return time.perf_counter() - began, most - before


def anonymous(pid: int) -> int:
    """Bytes of a process's anonymous memory; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder on a disk with room; a temporary one if not given")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=args.work))
    try:
        largest = write(work / "full", args.layers)
        for what in (("quantize", work / "full", work / "nf4"), ("load", work / "nf4")):
            seconds, most = measured(*what)
            print(f"{what[0]}: {seconds:.0f} s, {most / 1e9:.2f} GB of anonymous memory at most", flush=True)
            sizes = {p.name: sum(f.stat().st_size for f in p.glob("*.safetensors")) / 1e9 for p in work.iterdir()}
        print(f"bound while quantizing: {(3 * largest + 2e9) / 1e9:.2f} GB (largest tensor {largest / 1e9:.2f} GB)")
        print(f"on disk: {sizes['full']:.2f} GB became {sizes['nf4']:.2f} GB")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
