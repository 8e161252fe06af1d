"""What `dgtui model`, `doctor` and `config` promise, and what every `--help` does."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from dgtui import __version__, paths
from dgtui.cli import doctor
from dgtui.inference import choice
from dgtui.kernels import availability
from dgtui.model import bnb, catalog, devices
from dgtui.model.shards import read_shards


@pytest.fixture(autouse=True)
def embedded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkpoint in the place of the one that ships."""
    monkeypatch.setattr(catalog, "embedded_dir", lambda: tiny)
    return tiny


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def put_in_cache(cache: Path, name: str, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, cache / f"models--{name.replace('/', '--')}" / "snapshots" / "c0ffee"))


def cut(folder: Path) -> None:
    shard = folder / "model.safetensors"
    os.truncate(shard, shard.stat().st_size - 100)


# dgtui model list


def test_the_list_shows_the_embedded_model_as_the_one_generate_uses(dgtui: Any, cache: Path) -> None:
    done = dgtui("model", "list")
    assert done.code == 0
    head, line = done.out.decode().splitlines()
    assert head.split() == ["NAME", "PARAMETERS", "DTYPE", "SIZE", "WHERE"]
    assert line.split()[:2] == ["*", "embedded"]
    assert "685 kB" in line and "166 k" in line


def test_the_list_says_how_to_get_the_published_checkpoint_unless_it_is_here(
    dgtui: Any, cache: Path, tiny: Path
) -> None:
    assert f"dgtui model pull {catalog.REAL}" in dgtui("model", "list").err
    put_in_cache(cache, catalog.REAL, tiny)
    done = dgtui("model", "list")
    assert "model pull" not in done.err
    assert catalog.REAL in done.out.decode()


def test_a_broken_checkpoint_is_listed_with_what_is_wrong(dgtui: Any, cache: Path, tiny: Path) -> None:
    cut(put_in_cache(cache, "someone/broken", tiny))
    done = dgtui("model", "list")
    assert done.code == 0
    assert any(line.split()[:2] == ["!", "someone/broken"] for line in done.out.decode().splitlines())
    assert "! someone/broken: model.safetensors is cut short" in done.err
    by_name = {model["name"]: model for model in dgtui("model", "list", "--json").json["models"]}
    assert "cut short" in by_name["someone/broken"]["problem"]
    assert by_name["embedded"]["problem"] is None


def test_the_model_of_the_settings_is_the_marked_one(
    dgtui: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    monkeypatch.setenv("DGTUI_MODEL", str(other))
    models = dgtui("model", "list", "--json").json["models"]
    assert {model["name"]: model["default"] for model in models} == {"embedded": False, str(other): True}


def test_a_model_of_the_settings_that_is_missing_does_not_stop_the_list(
    dgtui: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DGTUI_MODEL", "nobody/nothing")
    done = dgtui("model", "list")
    assert done.code == 0
    assert "nobody/nothing" in done.err
    assert b"embedded" in done.out


def test_a_pipe_gets_plain_lines_of_any_length(dgtui: Any, cache: Path, tiny: Path) -> None:
    snapshot = put_in_cache(cache, f"someone/{'long' * 40}", tiny)
    out = dgtui("model", "list").out.decode()
    assert str(snapshot) in out
    assert "\x1b" not in out


# dgtui model info


def test_info_adds_up_the_parts_to_all_parameters(dgtui: Any, tiny: Path) -> None:
    found = dgtui("model", "info", tiny, "--json").json
    tensors = [tensor for shard in read_shards(tiny) for tensor in shard.tensors.values()]
    assert sum(found["parts"].values()) == found["parameters"] == sum(tensor.elements for tensor in tensors)
    assert found["parts"]["experts"] == 2 * 4 * (64 * 64 + 64 * 32)
    assert found["parts"]["embedding"] == 320 * 64
    assert found["parts"]["dense MLP"] == 2 * 3 * 96 * 64
    assert found["parts"]["self-conditioning"] == 3 * 96 * 64 + 64
    assert all(found["parts"][part] for part in ("attention", "vision", "router"))


def test_info_says_what_the_checkpoint_is(dgtui: Any, tiny: Path) -> None:
    found = dgtui("model", "info", tiny, "--json").json
    expected = {
        "name": str(tiny),
        "source": "folder",
        "dtype": "float32",
        "layers": 2,
        "hidden_size": 64,
        "experts": 4,
        "active_experts": 2,
        "canvas_length": 32,
        "vocab_size": 320,
        "context": 1024,
        "sampler": {
            "steps": 48, "t_min": 0.4, "t_max": 0.8, "entropy_bound": 0.1, "confidence": 0.005, "stability": 1,
            "proofread": 0,
        },
        "tokenizer": {"entries": 320, "chat_template": True, "problem": None},
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    memory = found["memory"]
    assert sum(memory["weights_bytes"].values()) == 4 * found["parameters"]
    assert memory["total_bytes"] == 4 * found["parameters"] + memory["prefix_bytes"] + memory["computed_bytes"]
    assert memory["fits"] and memory["available_bytes"] > memory["total_bytes"]
    assert (memory["formats"], memory["context"], memory["reason"]) == ([], 1024, "")


def test_info_as_text_names_every_part(dgtui: Any, tiny: Path) -> None:
    done = dgtui("model", "info")
    text = done.out.decode()
    assert done.code == 0
    assert "\x1b" not in text
    for word in ("embedded", str(tiny), "experts", "self-conditioning", "fingerprint", "1,024 tokens", "it fits"):
        assert word in text


def test_info_of_a_checkpoint_without_tokenizer_says_so(dgtui: Any, tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "tokenizer.json").unlink()
    assert "tokenizer.json" in dgtui("model", "info", copy, "--json").json["tokenizer"]["problem"]
    done = dgtui("model", "info", copy)
    assert done.code == 3
    assert b"it cannot be loaded" in done.out and b"it fits" not in done.out


def test_info_of_a_missing_or_broken_model_ends_with_3_and_a_hint(dgtui: Any, tiny: Path, tmp_path: Path) -> None:
    done = dgtui("model", "info", "nobody/nothing")
    assert (done.code, done.out) == (3, b"")
    assert "nobody/nothing" in done.err and "dgtui model list" in done.err
    broken = shutil.copytree(tiny, tmp_path / "broken")
    cut(broken)
    done = dgtui("model", "info", broken)
    assert (done.code, done.out) == (3, b"")
    assert "cut short" in done.err and "download the file again" in done.err


def test_a_hostile_folder_name_reaches_no_stream_raw(
    dgtui: Any, tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = shutil.copytree(tiny, tmp_path / "evil\x1b]0;title\x07\n\u202ename")
    put_in_cache(cache, "some\x1b[2Jone/evil\u202e", tiny)
    missing = f"{hostile}/no\x1b[2J"
    monkeypatch.setenv("DGTUI_MODEL", str(hostile))
    for args in (
        ("model", "info"), ("model", "info", "--json"), ("model", "info", missing), ("model", "list"),
        ("model", "list", "--json"), ("doctor",), ("doctor", "--json"),
    ):  # fmt: skip
        done = dgtui(*args)
        shown = done.out.decode() + done.err
        assert "evil" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown), args


# dgtui doctor


def test_doctor_ends_with_0_where_the_default_model_can_run(dgtui: Any) -> None:
    done = dgtui("doctor")
    text = done.out.decode()
    assert (done.code, done.err) == (0, "")
    assert "the default model can run" in text
    assert "fail" not in text and "\x1b" not in text
    for name in ("Python", "torch", "transformers", "textual", "GPU", "memory", "model", "config", "hub cache"):
        assert any(name in line.split("  ")[1:3] or f"  {name} " in line for line in text.splitlines()), name


def test_doctor_ends_with_1_and_says_what_to_do_where_it_cannot(
    dgtui: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = shutil.copytree(tiny, tmp_path / "broken")
    cut(broken)
    monkeypatch.setattr(catalog, "embedded_dir", lambda: broken)
    done = dgtui("doctor", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    [failed] = [check for check in done.json["checks"] if check["mark"] == "fail"]
    assert failed["name"] == "model"
    assert "cut short" in failed["found"]
    text = dgtui("doctor").out.decode()
    assert "✗ fail  model" in text and failed["advice"] in text


def test_every_finding_that_is_not_ok_says_what_to_do(
    dgtui: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = paths.config_dir() / "config.toml"
    config.write_text("[sampler]\nmax_steps = 0\n")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("DGTUI_MODEL", "nobody/nothing")
    found = dgtui("doctor", "--json").json["checks"]
    marks = {check["name"]: check["mark"] for check in found}
    assert (marks["config"], marks["state folder"], marks["model"]) == ("warn", "warn", "fail")
    assert all(check["advice"] for check in found if check["mark"] != "ok")
    assert f"{config}:2" in next(check["found"] for check in found if check["name"] == "config")


def test_a_package_of_a_version_that_does_not_fit_fails(dgtui: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["transformers<1,>=0.1", "textual==0.0.1", "torch>=2", 'bitsandbytes>=0.46; extra == "cuda"']
    monkeypatch.setattr(metadata, "requires", lambda name: declared)
    done = dgtui("doctor", "--json")
    by_name = {check["name"]: check for check in done.json["checks"]}
    assert done.code == 1
    assert by_name["transformers"]["mark"] == "fail"
    assert by_name["transformers"]["advice"] == "pip install 'transformers<1,>=0.1'"
    assert by_name["textual"]["mark"] == "warn"  # generate runs without it
    assert by_name["torch"]["mark"] == "ok"


def test_a_package_that_is_missing_fails_unless_it_is_optional(dgtui: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    marks = {check.name: check.mark for check in doctor._packages()}
    assert marks == {
        "torch": "fail", "transformers": "fail", "safetensors": "fail", "tokenizers": "fail",
        "textual": "warn", "bitsandbytes": "ok",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["", "CUDA error: no kernel image is available"])
def test_a_gpu_and_kernels_that_do_not_run_are_said(wrong: str, dgtui: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (7 * 10**9, 8 * 10**9))
    monkeypatch.setattr(devices, "trouble", lambda device: wrong)
    monkeypatch.setattr(bnb, "native", lambda kind: False)
    found = {check.name: check for check in (doctor._gpu(), *doctor._kernels())}
    assert (found["GPU"].mark, found["4-bit kernels"].mark) == ("warn" if wrong else "ok", "warn")
    assert (wrong or "7.0 GB of 8.0 GB free") in found["GPU"].found and "Old GPU" in found["GPU"].found
    assert "dgtui[cuda]" in found["4-bit kernels"].advice


def test_doctor_names_what_runs_a_model_and_why_it_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    here = doctor._stepper()
    assert (here.mark, here.found.partition(":")[0]) == ("ok", "cpu")
    for has in (True, False):
        monkeypatch.setattr(choice, "multiplies_bf16", lambda has=has: has)
        assert ("cpu-bf16" in doctor._stepper().found) is has
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "trouble", lambda device: "")
    monkeypatch.setattr(availability, "architecture", lambda device: 75)
    monkeypatch.setattr(choice, "check_grouped", lambda device, dtype: None)
    old = doctor._stepper()
    assert old.mark == "warn" and old.found.startswith("grouped")
    assert "the GPU has compute capability 7.5, but the kernels need 8.0" in old.found


def test_doctor_looks_at_keys_and_themes_too(dgtui: Any) -> None:
    config = paths.config_dir() / "config.toml"
    config.write_text('[screen]\ntheme = "mine"\n[keys]\n"canvas.pinn" = "z"\n"canvas.pin" = "left"\n')
    (paths.config_dir() / "themes").mkdir()
    (paths.config_dir() / "themes" / "mine.toml").write_text("name = 3\n")
    done = dgtui("doctor")
    text = done.out.decode()
    assert done.code == 0
    for said in (f"{config}:4: unknown binding canvas.pinn", "canvas.pin: left is already the key", "name must start",
                 "screen.theme is mine, but there is no such theme"):  # fmt: skip
        assert said in text


def test_doctor_leaves_nothing_but_empty_folders(dgtui: Any, own_folders: Path) -> None:
    dgtui("doctor")
    assert [path for path in own_folders.rglob("*") if not path.is_dir()] == []


# dgtui config


def test_config_path_prints_the_path_and_nothing_else(dgtui: Any) -> None:
    done = dgtui("config", "path")
    assert (done.code, done.out) == (0, f"{paths.config_file()}\n".encode())
    assert "does not exist" in done.err
    (paths.config_dir() / "config.toml").write_text("")
    done = dgtui("config", "path")
    assert (done.out, done.err) == (f"{paths.config_file()}\n".encode(), "")


def test_config_path_gives_another_program_the_path_as_it_is(
    dgtui: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = os.fsencode(tmp_path) + b"/caf\xe9 \x1b"
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fsdecode(home))
    assert dgtui("config", "path").out == home + b"/dgtui/config.toml\n"


# Every command

ALL_HELP = """
import contextlib, io, json, sys
import typer
from dgtui.cli import main, program

def names(command, path=()):
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from names(below, (*path, name))

found = {}
for path in names(typer.main.get_command(program())):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([*path, "--help"])
    found[" ".join(path)] = [code, "Usage: dgtui" in out.getvalue()]
heavy = {"torch", "transformers", "textual", "numpy", "huggingface_hub", "tokenizers", "psutil"}
print(json.dumps([found, sorted(heavy & sys.modules.keys())]))
"""


def test_help_of_every_command_works_and_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    found, heavy = json.loads(done.stdout)
    in_model = {f"model {name}" for name in ("list", "info", "pull", "remove")}
    assert found.keys() >= {"", "generate", "doctor", "bench", "config path"} | in_model
    assert all(result == [0, True] for result in found.values()), found
    assert heavy == []


def test_the_help_says_what_no_command_does_and_the_version_is_told(dgtui: Any) -> None:
    assert b"Without a command, `dgtui` opens the chat" in dgtui("--help").out
    done = dgtui("--version")
    assert (done.code, done.out) == (0, f"dgtui {__version__}\n".encode())


def test_completion_knows_every_command() -> None:
    environment = os.environ | {"_DGTUI_COMPLETE": "complete_bash", "COMP_WORDS": "dgtui ", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "dgtui"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert {"chat", "edit", "infill", "model", "config"} <= set(done.stdout.split())


def test_the_list_and_the_path_import_no_torch() -> None:
    code = (
        "import sys\nfrom dgtui.cli import main\n"
        "assert main(['model', 'list']) == main(['config', 'path']) == 0\n"
        "assert not {'torch', 'transformers', 'textual', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("args", [("--nope",), ("model", "info", "--nope"), ("evil\x1b[2J",), ("doctor", "extra")])
def test_wrong_usage_ends_with_2_and_a_usage_line(args: tuple[str, ...], dgtui: Any) -> None:
    done = dgtui(*args)
    assert (done.code, done.out) == (2, b"")
    assert "Usage: dgtui" in done.err and "Error: " in done.err
    assert "\x1b" not in done.err


def test_options_of_the_chat_need_no_command(dgtui: Any) -> None:
    for option in (["--continue"], ["--no-history"]):
        done = dgtui(*option)
        assert done.code == 6 and "needs a terminal" in done.err
    assert dgtui("--nonsense").code == 2
