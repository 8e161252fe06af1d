"""`dgtui model`: the command group, and `info`, which describes a checkpoint from headers and JSON, without weights."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dgtui.cli import model_store, options
from dgtui.cli.terminal import columns, put, size
from dgtui.errors import DgtuiError, ModelUnloadable, OutOfMemory

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.model.catalog import Checkpoint
    from dgtui.model.open_checkpoint import OpenCheckpoint

app = typer.Typer(help="List, describe, download, quantize and delete checkpoints.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


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
    """Describe a checkpoint: parts, geometry, defaults, and the memory plan for this machine."""
    settings = options.merged(
        {
            "model.name": name or model,
            "model.device": device,
            "model.gpu_memory": gpu_memory,
            "model.context": context,
            "model.vision": vision,
        }
    )
    from dgtui.model.selection import select

    facts = describe(select(settings.model.name), settings)
    put(json.dumps(facts, indent=2) + "\n" if as_json else "\n".join(_text(facts)) + "\n")
    return ModelUnloadable.exit_code if facts["tokenizer"]["problem"] else 0


def number(count: int) -> str:
    """Parameters, rounded: "25.2 B", "6.9 M", "170 k"."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1000:.0f} k"


def describe(checkpoint: "Checkpoint | OpenCheckpoint", settings: "Settings") -> dict[str, Any]:
    """The output of `info` as plain data. Raises the errors of `open_checkpoint`."""
    from dgtui.model.generation import read_generation
    from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint

    opened = checkpoint if isinstance(checkpoint, OpenCheckpoint) else open_checkpoint(checkpoint)
    vocab_size, experts = opened.number("vocab_size"), opened.number("num_experts")
    generation = read_generation(opened.generation_config, opened.config, vocab_size)
    text = opened.config["text_config"]
    sampler, tokenizer = generation.settings, _tokenizer(opened)
    return {
        "name": opened.name,
        "path": str(opened.path),
        "source": opened.checkpoint.source,
        "fingerprint": opened.fingerprint,
        "size_bytes": opened.size,
        "files": len(opened.shards),
        "dtype": opened.dtype,
        "parameters": opened.parameters,
        "parts": opened.parts,
        "layers": opened.number("num_hidden_layers"),
        "hidden_size": opened.number("hidden_size"),
        "experts": experts,
        "active_experts": text.get("top_k_experts") if experts else 0,
        "attention_heads": text.get("num_attention_heads"),
        "sliding_window": text.get("sliding_window"),
        "canvas_length": opened.number("canvas_length"),
        "vocab_size": vocab_size,
        "context": text.get("max_position_embeddings"),
        "sampler": {
            "steps": sampler.steps,
            "t_min": sampler.t_min,
            "t_max": sampler.t_max,
            "entropy_bound": sampler.entropy_bound,
            "confidence": sampler.confidence,
            "stability": sampler.stability,
            "proofread": sampler.proofread,
        },
        "stop_ids": sorted(generation.stop_ids),
        "tokenizer": tokenizer,
        "memory": _unloadable(tokenizer["problem"]) if tokenizer["problem"] else _memory(opened, settings),
    }


def _tokenizer(opened: "OpenCheckpoint") -> dict[str, Any]:
    from dgtui.model.loader import read_tokenizer

    try:
        tokenizer = read_tokenizer(opened)
    except DgtuiError as error:
        return {"entries": None, "chat_template": False, "problem": error.message}
    return {"entries": tokenizer.vocab_size, "chat_template": True, "problem": None}  # without one, reading it fails


def _unloadable(problem: str) -> dict[str, Any]:
    """In place of a plan, for what cannot be loaded."""
    return {"fits": False, "problem": f"it cannot be loaded: {problem}", "advice": ""}


def _memory(opened: "OpenCheckpoint", settings: "Settings") -> dict[str, Any]:
    """How a load would hold it on this machine, and the memory that takes; or why it cannot be loaded."""
    from dgtui.model.loader import checked_plan

    try:
        plan = checked_plan(opened, options.load_options(settings))
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
        "formats": list(plan.formats),
        "vision": packing.vision,
        "streamed_layers": packing.streamed,
        "reason": plan.reason,
    }


def _plan_lines(memory: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not memory["fits"]:
        return [("memory", memory["problem"]), *([("", memory["advice"])] if memory["advice"] else [])]
    weights = sum(memory["weights_bytes"].values())
    lines = [
        (
            "memory",
            f"{size(memory['total_bytes'])} of {size(memory['available_bytes'])} free on {memory['device']}: it fits",
        ),
        ("", f"{size(weights)} of weights ({', '.join([*memory['formats'], memory['dtype']])}):"),
    ]
    lines += [("", f"  {part} {size(count)}") for part, count in memory["weights_bytes"].items() if count]
    lines += [
        ("", f"{size(memory['prefix_bytes'])} for {memory['context']:,} tokens of context"),
        ("", f"{size(memory['computed_bytes'])} for the computations of a step"),
    ]
    if memory["beside_bytes"]:
        layers = f"the experts of the last {memory['streamed_layers']} layers"
        lines.append(("", f"{size(memory['beside_bytes'])} in main memory: {layers}"))
    if memory["reason"]:
        lines.append(("", memory["reason"]))
    return lines


def _text(facts: Mapping[str, Any]) -> list[str]:
    sampler, memory, tokenizer = facts["sampler"], facts["memory"], facts["tokenizer"]
    experts = f", {facts['experts']} experts ({facts['active_experts']} active)" if facts["experts"] else ""
    heads = f", {facts['attention_heads']} heads" if facts["attention_heads"] else ""
    window = f", sliding window {facts['sliding_window']:,}" if facts["sliding_window"] else ""
    files = "1 file" if facts["files"] == 1 else f"{facts['files']} files"
    lines = [
        ("name", facts["name"]),
        ("where", facts["path"]),
        ("size", f"{size(facts['size_bytes'])} in {files}, mostly {facts['dtype']}"),
        ("fingerprint", facts["fingerprint"]),
        ("parameters", f"{facts['parameters']:,}"),
    ]
    total = max(1, facts["parameters"])
    shares = [(part, f"{count:,}", f"{count / total:.1%}") for part, count in facts["parts"].items() if count]
    if shares:
        lines += [("", line) for line in columns(shares, right=(1, 2))]
    lines += [
        ("geometry", f"{facts['layers']} layers of {facts['hidden_size']:,}{experts}{heads}{window}"),
        ("canvas", f"{facts['canvas_length']} tokens"),
        ("context", f"{facts['context']:,} tokens" if facts["context"] else "not given"),
        ("vocabulary", f"{facts['vocab_size']:,} ids"),
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
