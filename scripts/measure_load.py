"""What loading and quantizing take: random checkpoints of the real geometry in each format, with fewer layers.

    PYTHONPATH=. python scripts/measure_load.py [--formats FP8 NVFP4 …] [--gigabytes 6] [--layers 2] [--no-run]

Each folder is as large as asked for, in the published layout of its format, and is deleted afterwards. It is loaded and
writes a block of two steps after a prompt that fills the context, in a process of its own. Its anonymous memory
(`RssAnon`, read every 2 ms: mapped files do not count) is compared with the plan, and what loading takes beside the
weights with a bound: the largest tensor three times and 2 GB. "bfloat16 to NF4" and "FP8 to NF4" are also quantized to
a folder, which never holds the whole model.
"""

import argparse
import functools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / "tests" / "data" / "diffusiongemma-26B-A4B-it" / "config.json"
CONTEXT = 512
STD = 0.02
Layer = Callable[[int, int], dict[str, torch.Tensor]]
"""Rows, columns → the tensors of a linear layer, by what follows its name."""


@functools.cache
def pool(top: int | None) -> torch.Tensor:
    """Random bytes below `top`, or normal weights: drawing gigabytes of them takes minutes."""
    return (torch.randn(1 << 22) * STD).bfloat16() if top is None else torch.randint(top, (1 << 24,), dtype=torch.uint8)


def repeated(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape)
    return values.repeat(-(-count // len(values)))[:count].view(shape)


def random_bytes(*shape: int, top: int = 256) -> torch.Tensor:
    return repeated(pool(top), shape)


def fp8(rows: int, columns: int) -> dict[str, torch.Tensor]:
    codes = random_bytes(rows, columns, top=120)
    codes[:, ::2] |= 0x80  # the sign
    return {"weight": codes.view(torch.float8_e4m3fn), "weight_scale": torch.full((rows, 1), STD / 100).bfloat16()}


def int8(rows: int, columns: int) -> dict[str, torch.Tensor]:
    codes = random_bytes(rows, columns).view(torch.int8)
    return {"weight": codes, "weight_scale": torch.full((rows, 1), STD / 74)}


def int4(rows: int, columns: int) -> dict[str, torch.Tensor]:
    scale = torch.full((rows, columns // 64), STD / 4.6).bfloat16()
    return {"weight_packed": random_bytes(rows, columns // 2).view(torch.int32), "weight_scale": scale}


def nvfp4(rows: int, columns: int) -> dict[str, torch.Tensor]:
    scale = torch.full((rows, columns // 16), 64.0).to(torch.float8_e4m3fn)
    own = {"weight": random_bytes(rows, columns // 2), "weight_scale": scale}
    return own | {"weight_scale_2": torch.tensor(STD / 190), "input_scale": torch.tensor(1.0)}


@dataclass(frozen=True)
class Kind:
    """A published layout."""

    layer: Layer | None
    """None: bfloat16."""
    parts: tuple[str, ...]
    """What is quantized."""
    about: Mapping[str, Any] | None
    nf4: bool = False
    """It is packed into NF4 on the way."""


ALL = ("experts", "attention", "dense MLP")
COMPRESSED = {"quant_method": "compressed-tensors"}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
KINDS = {
    "bfloat16": Kind(None, (), None),
    "bfloat16 to NF4": Kind(None, (), None, nf4=True),
    "FP8": Kind(fp8, ALL, COMPRESSED),
    "FP8 to NF4": Kind(fp8, ALL, COMPRESSED, nf4=True),
    "INT8": Kind(int8, ALL, COMPRESSED),
    "INT4": Kind(int4, ALL, COMPRESSED),
    "NVFP4": Kind(nvfp4, ("experts",), MODELOPT),
    "NVFP4 and NF4": Kind(nvfp4, ("experts",), MODELOPT, nf4=True),
    "GGUF": Kind(None, (), None),
    "GGUF and NF4": Kind(None, (), None, nf4=True),
}


def geometry(path: Path, layers: int, vocabulary: int) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text())
    kinds = ["sliding_attention"] * (layers - 1) + ["full_attention"]
    config["text_config"] |= {"num_hidden_layers": layers, "layer_types": kinds, "vocab_size": vocabulary}
    return config


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    from dgtui.model.geometry import read_geometry
    from dgtui.model.random_weights import RandomWeights

    source = RandomWeights(read_geometry(config), torch.device("cpu"))
    return {name: entry.shape for name, entry in source.tensors.items()}


def plain(shape: tuple[int, ...]) -> torch.Tensor:
    return repeated(pool(None), shape) if len(shape) > 1 else torch.ones(shape).bfloat16()


def tensors(kind: Kind, config: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """What is on the disk, one tensor after the other."""
    from dgtui.model.parts import part_of

    for name, shape in shapes(config).items():
        if kind.layer is None or part_of(name) not in kind.parts or len(shape) < 2:
            yield name, plain(shape)
            continue
        path, _, which = name.removesuffix(".weight").rpartition(".")
        layers = [(f"{path}.{which}", shape[-2])]
        if len(shape) == 3:
            each = {"gate_up_proj": ("gate_proj", "up_proj")}.get(which, (which,))
            layers = [(f"{path}.{e}.{own}", shape[1] // len(each)) for e in range(shape[0]) for own in each]
        for layer, rows in layers:
            for own, tensor in kind.layer(rows, shape[-1]).items():
                yield f"{layer}.{own}", tensor


def write(folder: Path, kind: Kind, config: dict[str, Any]) -> None:
    placed: dict[str, str] = {}
    held: dict[str, torch.Tensor] = {}

    def flush() -> None:
        name = f"model-{len(set(placed.values())) + 1:05}.safetensors"
        save_file(held, folder / name)
        placed.update(dict.fromkeys(held, name))
        held.clear()

    about = {} if kind.about is None else {"quantization_config": kind.about}
    (folder / "config.json").write_text(json.dumps(config | about))
    for name, tensor in tensors(kind, config):
        held[name] = tensor
        if sum(own.nbytes for own in held.values()) > 500_000_000 or len(held) > 4000:
            flush()
    flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


def write_gguf(folder: Path, config: dict[str, Any]) -> None:
    """In the mixture of the published Q4_K_M: down projections in 8 and 5 bits."""
    import gguf
    import numpy as np
    from gguf_files import LAYER, TOP, add_metadata

    from dgtui.model.gguf_file import model_name

    own = shapes(config)
    text = config["text_config"]
    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(folder / "model.gguf", "diffusion-gemma")
    add_metadata(writer, config)
    rows: list[tuple[str, Any, tuple[int, ...]]] = []
    for name in [*TOP, *(f"blk.{at}.{each}" for at in range(text["num_hidden_layers"]) for each in LAYER)]:
        shape = own.get(str(model_name(name)))
        if shape is None:
            continue
        wide = shape[-1] % 256 == 0
        small = len(shape) < 2 or "gate_inp" in name
        kind = types.F32 if small else types.Q4_K if wide else types.Q8_0 if "blk.0." in name else types.Q5_0
        rows.append((name, types.Q6_K if name == "token_embd.weight" else kind, shape))
    for name, kind, shape in rows:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = shape if kind == types.F32 else (*shape[:-1], shape[-1] // block * size)
        dtype = np.float32 if kind == types.F32 else np.uint8
        writer.add_tensor_info(name, stored, np.dtype(dtype), int(np.prod(stored)) * np.dtype(dtype).itemsize, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, kind, shape in rows:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if kind == types.F32:
            writer.write_tensor_data(np.ones(shape, np.float32))
            continue
        blocks = random_bytes(int(np.prod(shape)) // block, size).numpy()
        for at in {"Q6_K": [208], "Q4_K": [0, 2]}.get(kind.name, [0]):
            blocks[:, at : at + 2] = np.float16(STD / 600).reshape(1).view(np.uint8)
        writer.write_tensor_data(blocks.reshape(*shape[:-1], -1))
    writer.close()


CHILD = """
import json, sys
from pathlib import Path
import torch
from dgtui.model.offline import go_offline
go_offline()
import transformers.models.diffusion_gemma.modeling_diffusion_gemma
from dgtui.cli.bench_random import free_at_once, warm_up
from dgtui.diffusion import engine
from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.model import catalog, loader, quantized
from dgtui.model.geometry import read_geometry
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import LoadOptions, Packing
from dgtui.model.plan import estimate
from dgtui.worker import best_stepper

what, folder, target, context = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.manual_seed(0)
free_at_once()
warm_up(torch.device("cpu"))
opened = open_checkpoint(catalog.resolve(folder))

def said(word, **more):
    print(json.dumps({"at": word, **more}), flush=True)
    sys.stdin.readline()

said("ready")
if what == "quantize":
    quantized.quantize(opened, Path(target), device="cpu")
    said("done")
    raise SystemExit
packing = Packing(nf4=what == "nf4")
geometry = read_geometry(opened.config)
takes = estimate(geometry, opened.tensors, packing, torch.float32, context, snapshots=1)
most = estimate(geometry, opened.tensors, packing, torch.float32, context, snapshots=8).total if packing.nf4 else None
loaded = loader.load(opened, LoadOptions(device="cpu", context=context, memory=most))
assert loaded.plan.packing.nf4 == packing.nf4, loaded.plan
said("loaded", formats=loaded.plan.formats, weights=sum(takes.weights.values()), planned=takes.total)
if len(sys.argv) > 5:
    said("done", stepper="nothing")
    raise SystemExit
stepper = best_stepper(loaded)
canvas = loaded.model.config.canvas_length
draw = torch.Generator().manual_seed(1)
prompt = tuple(torch.randint(loaded.model.config.text_config.vocab_size, (context - canvas,), generator=draw).tolist())
for event in engine.run(stepper, Job("bench", prompt, 1, canvas, SamplerSettings(steps=2, stability=-1))):
    pass
said("done", stepper=stepper.name)
"""


@dataclass(frozen=True)
class Phase:
    """What a process said, and the memory until then."""

    said: dict[str, Any]
    seconds: float
    most: int
    now: int


def measured(*args: object) -> list[Phase]:
    """The phases of a process of its own."""
    command = [sys.executable, "-c", CHILD, *map(str, args)]
    phases: list[Phase] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        most, began, line = 0, time.perf_counter(), b""
        while process.poll() is None:
            most = max(most, now := anonymous(process.pid))
            line += process.stdout.read() or b""
            if line.endswith(b"\n"):
                phases.append(Phase(json.loads(line), time.perf_counter() - began, most, now))
                most, began, line = 0, time.perf_counter(), b""
                process.stdin.write(b"\n")
                process.stdin.flush()
            time.sleep(0.002)
    if process.returncode:
        raise SystemExit(f"{args} ended with {process.returncode}")
    return phases


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that are no file's; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def layers_of(name: str, gigabytes: float, vocabulary: int) -> int:
    """How many layers make a folder of that size."""
    bits = {"FP8": 8.02, "FP8 to NF4": 8.02, "INT8": 8.02, "INT4": 4.25}.get(name)
    experts = {"NVFP4": 4.5, "NVFP4 and NF4": 4.5}.get(name, bits or 16)
    layer = (760e6 * experts + 53e6 * (bits or 16)) / 8
    if "GGUF" in name:
        return max(
            2, round((gigabytes - 2816 * vocabulary * 6.56 / 8e9) * 1e9 / ((507e6 * 4.5 + 254e6 * 5.5 + 60e6) / 8))
        )
    return max(2, round((gigabytes - 2 * 2816 * vocabulary / 1e9 - 1.2) * 1e9 / layer))


def measure(
    name: str, path: Path, layers: int | None, gigabytes: float, vocabulary: int, work: Path, runs: bool
) -> None:
    from gemma_vocabulary import write_tokenizer

    kind = KINDS[name]
    config = geometry(path, layers or layers_of(name, gigabytes, vocabulary), vocabulary)
    folder = work / "model"
    folder.mkdir()
    try:
        if "GGUF" in name:
            write_gguf(folder, config)
        else:
            write(folder, kind, config)
        write_tokenizer(folder, size=vocabulary)
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".gguf"))
        largest = 2 * max(math.prod(shape) for shape in shapes(config).values())
        bound = 3 * largest + 2e9
        print(f"\n{name}: {size / 1e9:.2f} GB, {config['text_config']['num_hidden_layers']} layers", flush=True)
        ready, loaded, done = measured("nf4" if kind.nf4 else "full", folder, "-", CONTEXT, *([] if runs else ["no"]))
        said, base = loaded.said, ready.now
        held, beside = loaded.now - base, loaded.most - base - said["weights"]
        peak = max(loaded.most, done.most) - base
        form, limit = " and ".join(said["formats"]) or "float32", f"bound {gb(bound)}"
        print(f"  held in {form}, run by {done.said['stepper']}")
        print(f"  loading: {loaded.seconds:.0f} s, at most {gb(beside)} beside the weights ({limit})")
        print(f"  weights: {gb(said['weights'])} planned, {gb(held)} taken with the tokenizer")
        print(
            f"  at most: {gb(said['planned'])} planned, {gb(peak)} taken, ratio {said['planned'] / peak:.3f}",
            flush=True,
        )
        if name.endswith("to NF4"):
            ready, done = measured("quantize", folder, work / "nf4", CONTEXT)
            new = sum(path.stat().st_size for path in (work / "nf4").glob("*.safetensors"))
            print(f"  quantizing to a folder: {done.seconds:.0f} s, at most {gb(done.most - ready.now)} ({limit})")
            print(f"  {gb(size)} became {gb(new)}", flush=True)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(work / "nf4", ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--layers", type=int, help="instead of what makes a folder of that size")
    parser.add_argument("--config", type=Path, default=REAL, help="another geometry")
    parser.add_argument("--vocabulary", type=int, default=262_144)
    parser.add_argument("--no-run", action="store_true", help="load only: a step takes minutes at these widths")
    parser.add_argument("--work", type=Path, help="a folder on a disk with room; a temporary one if not given")
    args = parser.parse_args()
    sys.path.append(str(ROOT / "tests"))
    work = Path(tempfile.mkdtemp(dir=args.work))
    try:
        for name in args.formats:
            measure(name, args.config, args.layers, args.gigabytes, args.vocabulary, work, not args.no_run)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
