"""`dgtui model`: the group, and `info`: what a checkpoint is. Reads headers and JSON, no weights."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dgtui.cli import model_store, options
from dgtui.cli.terminal import columns, put, size
from dgtui.errors import DgtuiError, OutOfMemory

if TYPE_CHECKING:
    from pathlib import Path

    from dgtui.model.catalog import Checkpoint
    from dgtui.model.shards import Shard

app = typer.Typer(help="Checkpoints: which are here, what they are, fetching and deleting them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]

_PARTS: Final = (
    ("vision", ("vision_tower", "embed_vision")),
    ("self-conditioning", ("self_conditioning",)),
    ("embedding", ("embed_tokens",)),
    ("experts", ("experts",)),
    ("router", ("router",)),
    ("attention", ("self_attn",)),
    ("dense MLP", ("mlp",)),
)
"""A part of the model, and the names that are on the path of its tensors; the first that fits takes a tensor."""
_REST: Final = "norms and scales"


app.command("list")(model_store.list_models)
app.command("pull")(model_store.pull)
app.command("remove")(model_store.remove)


@app.command("info")
def info(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A name from the list, a hub id, or a folder.")
    ] = None,
    as_json: Json = False,
    model: options.Model = None,
    device: options.Device = None,
) -> int:
    """Say what a checkpoint is: parts, geometry, defaults, and the memory it needs here."""
    settings = options.merged({"model.name": name or model, "model.device": device})
    from dgtui.model import catalog

    found = describe(catalog.resolve(settings.model.name), settings.model.device)
    put(json.dumps(found, indent=2) + "\n" if as_json else "\n".join(_text(found)) + "\n")
    return 0


def number(count: int) -> str:
    """Parameters, rounded: "25.2 B", "6.9 M", "170 k"."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1000:.0f} k"


def count_parts(shards: "Iterable[Shard]") -> dict[str, int]:
    """Parameters of each part of the model, by the names of its tensors; together they are all there are."""
    counts: Counter[str] = Counter({part: 0 for part, _ in _PARTS} | {_REST: 0})
    for shard in shards:
        for key, tensor in shard.tensors.items():
            on_path = set(key.split("."))
            part = next((part for part, names in _PARTS if on_path.intersection(names)), _REST)
            counts[part] += tensor.elements
    return dict(counts)


def describe(checkpoint: "Checkpoint", device: str) -> dict[str, Any]:
    """All that `info` tells, as plain data. Raises what `catalog.check` raises."""
    from dgtui.model import catalog
    from dgtui.model.generation import read_generation
    from dgtui.model.shards import fingerprint

    path = checkpoint.path
    shards = catalog.check(path)
    config = catalog.read_config(path)
    described = catalog.describe(checkpoint)
    generation = read_generation(path, config, described.vocab_size)
    text = config["text_config"]
    sampler = generation.settings
    return {
        "name": checkpoint.name,
        "path": str(path),
        "source": checkpoint.source,
        "fingerprint": fingerprint(path, shards),
        "size_bytes": described.size,
        "files": len(shards),
        "dtype": described.dtype,
        "parameters": described.parameters,
        "parts": count_parts(shards),
        "layers": described.layers,
        "hidden_size": described.hidden_size,
        "experts": described.experts,
        "active_experts": text.get("top_k_experts") if described.experts else 0,
        "attention_heads": text.get("num_attention_heads"),
        "sliding_window": text.get("sliding_window"),
        "canvas_length": described.canvas_length,
        "vocab_size": described.vocab_size,
        "context": text.get("max_position_embeddings"),
        "sampler": {
            "steps": sampler.steps,
            "t_min": sampler.t_min,
            "t_max": sampler.t_max,
            "entropy_bound": sampler.entropy_bound,
            "confidence": sampler.confidence,
            "stability": sampler.stability,
        },
        "stop_ids": sorted(generation.stop_ids),
        "tokenizer": _tokenizer(path),
        "memory": _memory(shards, described.canvas_length, described.vocab_size, device),
    }


def _tokenizer(path: "Path") -> dict[str, Any]:
    from dgtui.model.tokenizer import ModelTokenizer

    try:
        tokenizer = ModelTokenizer.load(path)
    except DgtuiError as error:
        return {"entries": None, "chat_template": False, "problem": error.message}
    return {"entries": tokenizer.vocab_size, "chat_template": True, "problem": None}  # it is not read without one


def _memory(shards: "list[Shard]", canvas_length: int, vocab_size: int, wanted: str) -> dict[str, Any]:
    """What a load takes and what there is: weights as they are kept on the device, and one step's scratch."""
    from dgtui.model import devices
    from dgtui.model.weights import loaded_size

    device = devices.choose_device(wanted)
    dtype = devices.choose_dtype(device)
    weights, scratch = loaded_size(shards, dtype), devices.scratch(canvas_length, vocab_size)
    available = devices.available(device)
    try:
        devices.require(weights + scratch, device)
    except OutOfMemory:
        fits = False
    else:
        fits = True
    return {
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "weights_bytes": weights,
        "scratch_bytes": scratch,
        "available_bytes": available,
        "fits": fits,
    }


def _text(found: Mapping[str, Any]) -> list[str]:
    sampler, memory, tokenizer = found["sampler"], found["memory"], found["tokenizer"]
    experts = f", {found['experts']} experts ({found['active_experts']} active)" if found["experts"] else ""
    heads = f", {found['attention_heads']} heads" if found["attention_heads"] else ""
    window = f", sliding window {found['sliding_window']:,}" if found["sliding_window"] else ""
    files = "1 file" if found["files"] == 1 else f"{found['files']} files"
    needed = memory["weights_bytes"] + memory["scratch_bytes"]
    lines = [
        ("name", found["name"]),
        ("where", found["path"]),
        ("size", f"{size(found['size_bytes'])} in {files}, mostly {found['dtype']}"),
        ("fingerprint", found["fingerprint"]),
        ("parameters", f"{found['parameters']:,}"),
    ]
    total = max(1, found["parameters"])
    shares = [(part, f"{count:,}", f"{count / total:.1%}") for part, count in found["parts"].items() if count]
    if shares:
        lines += [("", line) for line in columns(shares, right=(1, 2))]
    lines += [
        ("geometry", f"{found['layers']} layers of {found['hidden_size']:,}{experts}{heads}{window}"),
        ("canvas", f"{found['canvas_length']} tokens"),
        ("context", f"{found['context']:,} tokens" if found["context"] else "not said"),
        ("vocabulary", f"{found['vocab_size']:,} ids"),
        (
            "tokenizer",
            f"unusable: {tokenizer['problem']}"
            if tokenizer["problem"]
            else f"{tokenizer['entries']:,} entries, with a chat template",
        ),
        (
            "sampler",
            f"{sampler['steps']} steps, temperature {sampler['t_max']} to {sampler['t_min']}, entropy bound "
            f"{sampler['entropy_bound']}; ends early when stable for {sampler['stability']}, mean entropy below "
            f"{sampler['confidence']}",
        ),
        (
            "memory",
            f"{size(needed)} on {memory['device']} ({size(memory['weights_bytes'])} of weights in {memory['dtype']}, "
            f"{size(memory['scratch_bytes'])} for a step); {size(memory['available_bytes'])} available: "
            + ("it fits" if memory["fits"] else "too little"),
        ),
    ]
    return columns(lines)
