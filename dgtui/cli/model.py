"""`dgtui model`: the group, and `info`: what a checkpoint is. Reads headers and JSON, no weights."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dgtui.cli import model_store, options
from dgtui.cli.terminal import columns, put, size
from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import DgtuiError, OutOfMemory

if TYPE_CHECKING:
    from pathlib import Path

    from dgtui.config import Settings
    from dgtui.model.catalog import Checkpoint

app = typer.Typer(help="Checkpoints: which are here, what they are, fetching and deleting them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


app.command("list")(model_store.list_models)
app.command("pull")(model_store.pull)
app.command("quantize")(model_store.quantize)
app.command("remove")(model_store.remove)


@app.command("info")
def info(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A name from the list, a hub id, or a folder.")
    ] = None,
    as_json: Json = False,
    model: options.Model = None,
    device: options.Device = None,
    gpu_memory: options.GpuMemory = None,
    context: options.Context = None,
    vision: options.Vision = None,
) -> int:
    """Say what a checkpoint is: parts, geometry, defaults, and how it would be held here."""
    settings = options.merged(
        {
            "model.name": name or model,
            "model.device": device,
            "model.gpu_memory": gpu_memory,
            "model.context": context,
            "model.vision": vision,
        }
    )
    from dgtui.model import catalog

    found = describe(catalog.resolve(settings.model.name), settings)
    put(json.dumps(found, indent=2) + "\n" if as_json else "\n".join(_text(found)) + "\n")
    return 0


def number(count: int) -> str:
    """Parameters, rounded: "25.2 B", "6.9 M", "170 k"."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1000:.0f} k"


def describe(checkpoint: "Checkpoint", settings: "Settings") -> dict[str, Any]:
    """All that `info` tells, as plain data. Raises what `catalog.check` raises."""
    from dgtui.model import catalog
    from dgtui.model.generation import read_generation
    from dgtui.model.parts import count_parts, parameters_of
    from dgtui.model.shards import fingerprint

    path = checkpoint.path
    shards = catalog.check(path)
    config = catalog.read_config(path)
    described = catalog.describe(checkpoint)
    generation = read_generation(path, config, described.vocab_size)
    text = config["text_config"]
    sampler = generation.settings
    tensors = [(name, tensor.elements) for shard in shards for name, tensor in shard.tensors.items()]
    parameters = [(name, parameters_of(name, elements)) for name, elements in tensors]
    return {
        "name": checkpoint.name,
        "path": str(path),
        "source": checkpoint.source,
        "fingerprint": fingerprint(path, shards),
        "size_bytes": described.size,
        "files": len(shards),
        "dtype": described.dtype,
        "parameters": described.parameters,
        "parts": count_parts(parameters),
        "layers": described.layers,
        "hidden_size": described.hidden_size,
        "experts": described.experts,
        "active_experts": text.get("top_k_experts") if described.experts else 0,
        "attention_heads": text.get("num_attention_heads"),
        "sliding_window": text.get("sliding_window"),
        "canvas_length": described.canvas_length,
        "vocab_size": described.vocab_size,
        "context": text.get("max_position_embeddings"),
        "sampler": {spec.name: getattr(sampler, spec.name) for spec in SAMPLER},
        "stop_ids": sorted(generation.stop_ids),
        "tokenizer": _tokenizer(path),
        "memory": _memory(checkpoint, settings),
    }


def _tokenizer(path: "Path") -> dict[str, Any]:
    from dgtui.model.tokenizer import ModelTokenizer

    try:
        tokenizer = ModelTokenizer.load(path)
    except DgtuiError as error:
        return {"entries": None, "chat_template": False, "problem": error.message}
    return {"entries": tokenizer.vocab_size, "chat_template": True, "problem": None}  # it is not read without one


def _memory(checkpoint: "Checkpoint", settings: "Settings") -> dict[str, Any]:
    """How a load would hold it here, and what that takes; or why it cannot."""
    from dgtui.model.loader import plan_for

    try:
        plan = plan_for(checkpoint, options.load_options(settings))
    except OutOfMemory as error:
        return {"fits": False, "problem": error.message, "advice": error.hint}
    taken, packing = plan.estimate, plan.packing
    return {
        "fits": True,
        "device": str(plan.device),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "available_bytes": plan.available,
        "total_bytes": taken.total,
        "weights_bytes": dict(taken.weights),
        "prefix_bytes": taken.prefix,
        "computed_bytes": taken.computed,
        "beside_bytes": taken.streamed,
        "context": plan.context,
        "nf4": packing.nf4,
        "double_quant": packing.double,
        "vision": packing.vision,
        "streamed_layers": packing.streamed,
        "reason": plan.reason,
    }


def _plan_lines(memory: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not memory["fits"]:
        return [("memory", memory["problem"]), ("", memory["advice"])]
    weights = sum(memory["weights_bytes"].values())
    lines = [
        (
            "memory",
            f"{size(memory['total_bytes'])} of {size(memory['available_bytes'])} free on {memory['device']}: it fits",
        ),
        ("", f"{size(weights)} of weights ({'NF4, else ' if memory['nf4'] else ''}{memory['dtype']}):"),
    ]
    lines += [("", f"  {part} {size(count)}") for part, count in memory["weights_bytes"].items() if count]
    lines += [
        ("", f"{size(memory['prefix_bytes'])} for {memory['context']:,} tokens of context"),
        ("", f"{size(memory['computed_bytes'])} for what a step computes"),
    ]
    if memory["beside_bytes"]:
        layers = f"the experts of the last {memory['streamed_layers']} layers"
        lines.append(("", f"{size(memory['beside_bytes'])} in the machine's memory: {layers}"))
    if memory["reason"]:
        lines.append(("", memory["reason"]))
    return lines


def _text(found: Mapping[str, Any]) -> list[str]:
    sampler, memory, tokenizer = found["sampler"], found["memory"], found["tokenizer"]
    experts = f", {found['experts']} experts ({found['active_experts']} active)" if found["experts"] else ""
    heads = f", {found['attention_heads']} heads" if found["attention_heads"] else ""
    window = f", sliding window {found['sliding_window']:,}" if found["sliding_window"] else ""
    files = "1 file" if found["files"] == 1 else f"{found['files']} files"
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
        *_plan_lines(memory),
    ]
    return columns(lines)
