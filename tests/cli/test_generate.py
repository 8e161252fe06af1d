"""What `dgtui generate` promises, on a checkpoint of random weights."""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import tiny_checkpoint
from PIL import Image as Pillow

from dgtui.cli.generate import _Output, _text
from dgtui.diffusion import engine
from dgtui.diffusion.events import Finished, StopReason
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.message import Message
from dgtui.model import devices
from dgtui.model.catalog import resolve
from dgtui.model.denoiser import TransformersDenoiser
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions
from dgtui.session import recording
from dgtui.worker import Run, best_stepper

KEYS = {"text", "token_ids", "steps", "stop_reason", "seed", "model", "timing"}
TIMES = {"load_s", "first_frame_s", "wall_s", "tokens_per_second", "tokens_per_forward"}
LONG = ("--steps", "100000", "--confidence", "1e-9", "--max-tokens", "900")


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> LoadedModel:
    return load(resolve(str(tiny)), LoadOptions(device="cpu"))


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def engine_run(loaded: LoadedModel, ids: tuple[int, ...], seed: int, steps: int, max_tokens: int) -> Finished:
    job = Job("test", ids, seed, max_tokens, replace(loaded.settings, steps=steps))
    *_, last = engine.run(ReferenceStepper(TransformersDenoiser(loaded.model, loaded.stop_ids)), job)
    assert isinstance(last, Finished)
    return last


# What is written


def test_a_pipe_gets_the_text_and_nothing_else(dgtui: Any, tiny: Path, loaded: LoadedModel) -> None:
    args = ("generate", "hello", "--model", tiny, "--steps", "3", "--seed", "5")
    done = dgtui(*args)
    ids = dgtui(*args, "--json").json["token_ids"]
    assert (done.code, done.err) == (0, "")
    answer = loaded.tokenizer.split_thought(ids).answer_ids
    assert done.out == loaded.tokenizer.decode_bytes(answer) + b"\n"


def test_json_is_one_object_with_the_documented_keys(dgtui: Any, tiny: Path) -> None:
    done = dgtui("generate", "hello", "--model", tiny, "--steps", "3", "--seed", "5", "--json")
    assert done.code == 0
    found = done.json
    assert found.keys() - {"thought"} == KEYS
    assert found["timing"].keys() == TIMES
    assert (found["seed"], found["model"]) == (5, str(tiny))
    assert found["stop_reason"] in {"eos", "length"}
    assert done.out.count(b"\n") == 1


def test_a_thought_stands_apart_from_the_text(loaded: LoadedModel, capsysbinary: Any) -> None:
    tokenizer = loaded.tokenizer
    channel = [loaded.tokenizer._id_of(sign) for sign in ("<|channel>", "<channel|>")]
    ids = [channel[0], *tokenizer.encode("thought\nhm"), channel[1], *tokenizer.encode("yes")]
    job = Job("test", (2,), 0)
    finished = Finished("test", StopReason.EOS, (np.array(ids, dtype=np.int32),), (1,), 0.1)
    _Output(loaded, as_json=True, frames=False).result(Run(job, RunLog(job)), finished, 0.1)
    found = json.loads(capsysbinary.readouterr().out)
    assert found.keys() == KEYS | {"thought"}
    assert (found["thought"], found["text"], found["token_ids"]) == ("hm", "yes", ids)


def test_frames_are_a_line_a_step_and_then_the_object(dgtui: Any, tiny: Path) -> None:
    args = ("generate", "hello", "--model", tiny, "--steps", "3", "--seed", "5", "--max-tokens", "64")
    done = dgtui(*args, "--frames")
    *frames, last = [json.loads(line) for line in done.out.splitlines()]
    assert len(frames) == sum(last["steps"])
    assert [frame["step"] for frame in frames if frame["block"] == 0] == list(range(1, last["steps"][0] + 1))
    assert all(len(frame["token_ids"]) == len(frame["entropy"]) == 32 for frame in frames)
    assert last.keys() - {"thought"} == KEYS
    assert last["token_ids"] == dgtui(*args, "--json").json["token_ids"]


@pytest.mark.parametrize("extra", [(), ("--json",), ("--frames",)])
def test_no_escape_sequence_is_added_where_nothing_is_a_terminal(
    extra: tuple[str, ...], dgtui: Any, tiny: Path, loaded: LoadedModel
) -> None:
    done = dgtui("generate", "hello", "--model", tiny, "--steps", "3", "--seed", "5", *extra)
    assert "\x1b" not in done.err
    if extra:
        assert b"\x1b" not in done.out
    else:  # the bytes of the text are the model's own
        ids = dgtui("generate", "hello", "--model", tiny, "--steps", "3", "--seed", "5", "--json").json["token_ids"]
        assert done.out.count(b"\x1b") == loaded.tokenizer.decode_bytes(ids).count(b"\x1b")


# What decides the tokens


def test_the_same_seed_gives_the_same_tokens(dgtui: Any, tiny: Path) -> None:
    def tokens(seed: str) -> list[int]:
        ids: list[int] = dgtui("generate", "hi", "-m", tiny, "--steps", "3", "--seed", seed, "--json").json["token_ids"]
        return ids

    assert tokens("7") == tokens("7") != tokens("8")


def test_a_seed_that_was_not_given_is_said_and_repeats_the_run(dgtui: Any, tiny: Path) -> None:
    args = ("generate", "hi", "-m", tiny, "--steps", "3", "--json")
    first = dgtui(*args).json
    assert dgtui(*args, "--seed", str(first["seed"])).json["token_ids"] == first["token_ids"]


def test_a_prompt_of_token_ids_runs_as_the_engine_runs_it(dgtui: Any, tiny: Path, loaded: LoadedModel) -> None:
    found = dgtui("generate", "--token-ids", "2 5 99", "-m", tiny, "--steps", "4", "--seed", "3", "--json").json
    expected = engine_run(loaded, (2, 5, 99), seed=3, steps=4, max_tokens=256)
    assert found["token_ids"] == expected.token_ids[0].tolist()
    assert (found["steps"], found["stop_reason"]) == (list(expected.steps), str(expected.reason))


def test_a_prompt_goes_through_the_chat_template_and_raw_does_not(
    dgtui: Any, tiny: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = loaded.tokenizer
    args = ("generate", "-m", tiny, "--steps", "3", "--seed", "3", "--json")
    chat = tokenizer.chat([Message("user", "hi <turn|>")])
    assert tokenizer.bos_id is not None
    raw = [tokenizer.bos_id, *tokenizer.encode("hi <turn|>")]
    for extra, ids in ((("hi <turn|>",), chat), (("hi <turn|>", "--raw"), raw)):
        as_ids = dgtui(*args, "--token-ids", " ".join(map(str, ids))).json
        monkeypatch.setenv("DGTUI_MODEL_STEPPER", "reference")  # the one that token ids run on
        assert dgtui(*args, *extra).json["token_ids"] == as_ids["token_ids"]


def test_max_tokens_cuts_what_is_written(dgtui: Any, tiny: Path) -> None:
    args = ("generate", "hi", "-m", tiny, "--steps", "3", "--seed", "5", "--json")
    whole = dgtui(*args, "--max-tokens", "32").json
    cut = dgtui(*args, "--max-tokens", "2").json
    assert cut["token_ids"] == whole["token_ids"][:2]
    assert (len(cut["token_ids"]), cut["stop_reason"]) == (2, "length")


@pytest.mark.parametrize("args", [(), ("-",)])
def test_standard_input_is_a_prompt_too(args: tuple[str, ...], dgtui: Any, tiny: Path) -> None:
    rest = ("-m", tiny, "--steps", "3", "--seed", "3", "--json")
    piped = dgtui("generate", *args, *rest, stdin="grüße".encode())
    assert piped.json["token_ids"] == dgtui("generate", "grüße", *rest).json["token_ids"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_break_that_echo_adds_is_no_part_of_the_prompt(end: str) -> None:
    def asked(text: str, raw: bool = False) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            return _text("-", raw)

    assert asked(f"sort:\n b, a{end}") == "sort:\n b, a"
    assert asked(f"sort:{end}{end}") == f"sort:{end}"
    assert asked(f"sort:{end}", raw=True) == f"sort:{end}"


def test_a_recording_holds_the_run_that_was_printed(dgtui: Any, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.dgtui"
    found = dgtui("generate", "hi", "-m", tiny, "--steps", "3", "--json", "--record", file).json
    kept = recording.load(file)
    assert kept.log.finished is not None
    assert kept.log.finished.token_ids[0].tolist() == found["token_ids"]
    assert (kept.log.job.seed, kept.model) == (found["seed"], found["model"])
    assert len(kept.log.frames()) == sum(found["steps"])


def test_a_recording_that_cannot_be_written_does_not_take_the_text(dgtui: Any, tiny: Path, tmp_path: Path) -> None:
    done = dgtui("generate", "hi", "-m", tiny, "--steps", "3", "--json", "--record", tmp_path / ("x" * 300))
    assert done.code == 1
    assert done.json.keys() >= KEYS


def test_a_cache_folder_that_cannot_be_made_is_no_reason_not_to_run(
    dgtui: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert dgtui("generate", "hi", "-m", tiny, "--steps", "2").code == 0
    info = dgtui("model", "info", tiny, "--json", "--context", "300").json["memory"]
    little = info["total_bytes"] - info["weights_bytes"]["experts"] // 2
    monkeypatch.setattr(devices, "available", lambda device: little)
    packed = dgtui("generate", "hi", "-m", tiny, "--steps", "2", "--context", "300")
    assert packed.code == 0 and "no 4-bit copy is kept" in packed.err


# What is refused


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (("",), b""),
        ((" \n",), b""),
        (("-",), b""),
        ((), b"\n"),
        ((), b"caf\xe9"),
        (("--token-ids", " "), b""),
        (("word " * 2000,), b""),
        (("hello", "--context", "40"), b""),
    ],
    ids=["empty", "blank", "empty stdin", "blank stdin", "not UTF-8", "no ids", "too long", "small context"],
)
def test_a_prompt_that_cannot_be_used_is_refused_with_4(
    args: tuple[str, ...], stdin: bytes, dgtui: Any, tiny: Path
) -> None:
    done = dgtui("generate", *args, "-m", tiny, "--steps", "1", stdin=stdin)
    assert (done.code, done.out) == (4, b"")
    assert done.err.startswith("dgtui: ")


@pytest.mark.parametrize(
    "args",
    [
        ("hi", "--t-min", "0.9", "--t-max", "0.5"),
        ("hi", "--t-min", "0.9"),
        ("hi", "--steps", "0"),
        ("hi", "--entropy-bound", "nan"),
        ("hi", "--max-tokens", "0"),
        ("hi", "--seed", "-1"),
        ("hi", "--seed", str(2**63)),
        ("hi", "--token-ids", "2 5"),
        ("--token-ids", "2 five"),
        ("--token-ids", "2 -5"),
        ("--token-ids", "2 99999"),
        ("hi", "--no-such-option"),
        ("hi", "--record", "no/such/folder/run.dgtui"),
        ("hi", "--record", "/"),
        ("hi", "--record", ""),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(args: tuple[str, ...], dgtui: Any, tiny: Path) -> None:
    done = dgtui("generate", *args, "-m", tiny)
    assert (done.code, done.out) == (2, b"")
    assert done.err
    assert "Traceback" not in done.err


def test_one_temperature_and_a_run_that_never_ends_early_are_taken(dgtui: Any, tiny: Path) -> None:
    constant = ("--t-min", "0.5", "--t-max", "0.5", "--stability", "-1", "--steps", "3")
    done = dgtui("generate", "hi", "-m", tiny, "--max-tokens", "4", "--json", *constant)
    assert (done.code, json.loads(done.out)["steps"]) == (0, [3])


def test_a_missing_model_ends_with_3_and_a_hint(dgtui: Any) -> None:
    done = dgtui("generate", "hi", "-m", "nobody/nothing")
    assert (done.code, done.out) == (3, b"")
    assert "nobody/nothing" in done.err
    assert "dgtui model list" in done.err


def test_a_shard_that_is_cut_short_ends_with_3_and_is_named(dgtui: Any, copy: Path) -> None:
    shard = copy / "model.safetensors"
    os.truncate(shard, shard.stat().st_size - 100)
    done = dgtui("generate", "hi", "-m", copy)
    assert (done.code, done.out) == (3, b"")
    assert "model.safetensors is cut short" in done.err


def test_another_architecture_ends_with_3(dgtui: Any, copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "llama"}')
    done = dgtui("generate", "hi", "-m", copy)
    assert (done.code, done.out) == (3, b"")
    assert "llama" in done.err


def test_pickled_weights_end_with_3_and_are_not_opened(dgtui: Any, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 9'\ntR.")
    done = dgtui("generate", "hi", "-m", copy)
    assert (done.code, done.out) == (3, b"")
    assert "pickled" in done.err


# Signals and pipes


def start(*args: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dgtui", "generate", *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


@pytest.mark.slow
def test_ctrl_c_ends_frames_with_the_object_of_what_there_is(tiny: Path, loaded: LoadedModel) -> None:
    # unbuffered: `communicate` does not see what `readline` has read ahead
    process = start("hi", "-m", tiny, *LONG, "--frames", stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    *frames, last = [json.loads(line) for line in (first + out).splitlines()]
    assert (process.returncode, err) == (130, b"")
    assert last["stop_reason"] == "cancelled"
    assert len(frames) == sum(last["steps"])
    assert last["token_ids"] == reply(frames[-1]["token_ids"], loaded)  # of random weights it may be empty


def reply(draft: list[int], loaded: LoadedModel) -> list[int]:
    """The ids of a draft before the first that ends a reply."""
    return list(itertools.takewhile(lambda token: token not in loaded.stop_ids, draft))


TELLING = """
import sys
from dgtui import cli, worker
from dgtui.diffusion.events import Frame

def tell(*what):
    print(*what, file=sys.stderr, flush=True)

class Telling(worker.Worker):
    def load(self, *args, **options):
        tell("loading")
        return super().load(*args, **options)

    def submit(self, job, sink=None):
        def sink(run, upto):
            if upto == 5:
                tell("running")
            if isinstance(run.log[upto - 1], Frame):
                tell(*run.log[upto - 1].ids)
        return super().submit(job, sink)

worker.Worker = Telling
sys.exit(cli.main(sys.argv[1:]))
"""
"""The program, with a word on stderr when it has got somewhere and the ids of every frame: by itself it writes nothing
before the end."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["loading", "running"])
def test_ctrl_c_ends_it_at_once_with_the_text_of_what_there_is(when: str, tiny: Path, loaded: LoadedModel) -> None:
    command = [sys.executable, "-c", TELLING, "generate", "hi", "-m", str(tiny), *LONG]
    process = subprocess.Popen(
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while process.stderr.readline() != f"{when}\n".encode():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    if when == "loading":
        assert out == b""
    else:
        ids = reply([int(token) for token in err.splitlines()[-1].split()], loaded)
        answer = list(loaded.tokenizer.split_thought(ids).answer_ids)
        assert out == loaded.tokenizer.decode_bytes(answer) + b"\n"


@pytest.mark.slow
def test_a_kill_is_taken_as_ctrl_c_and_the_recording_is_written(tiny: Path, tmp_path: Path) -> None:
    record = ("--record", tmp_path / "run.dgtui")
    process = start("hi", "-m", tiny, *LONG, "--frames", *record, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert json.loads(out.splitlines()[-1])["stop_reason"] == "cancelled"
    assert recording.load(tmp_path / "run.dgtui").log.finished is not None


@pytest.mark.slow
def test_a_hang_up_ends_it_like_ctrl_c_and_the_recording_is_written(tiny: Path, tmp_path: Path) -> None:
    record = ("--record", tmp_path / "run.dgtui")
    process = start("hi", "-m", tiny, *LONG, "--frames", *record, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert json.loads(out.splitlines()[-1])["stop_reason"] == "cancelled"
    assert recording.load(tmp_path / "run.dgtui").log.finished is not None


@pytest.mark.slow
def test_a_terminal_that_closes_does_not_take_the_recording(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dgtui", "generate", "hi", "-m", str(tiny), *LONG]
    command += ["--record", str(tmp_path / "run.dgtui")]
    master, slave = os.openpty()
    process = subprocess.Popen(command, preexec_fn=lambda: os.login_tty(slave), pass_fds=(slave,))
    os.close(slave)
    drawn = b""
    while b"settled" not in drawn:
        drawn += os.read(master, 65536)
    os.close(master)
    process.wait(30)
    assert recording.load(tmp_path / "run.dgtui").log.frames()


def without_end(dgtui: Any, tiny: Path) -> tuple[Any, ...]:
    """Arguments with which the random model writes five ids and no end of the reply."""
    for seed in range(20):
        args = ("generate", "hi", "-m", tiny, "--steps", "1", "--seed", str(seed))
        done = dgtui(*args, "--json", "--max-tokens", "5")
        if json.loads(done.out)["stop_reason"] == "length":
            assert done.err == ""
            return args
    raise AssertionError("all of the seeds end the reply at once")


def test_a_reply_that_is_cut_says_so_on_stderr(dgtui: Any, tiny: Path) -> None:
    cut = dgtui(*without_end(dgtui, tiny), "--max-tokens", "3")
    assert (cut.code, cut.err) == (0, "the reply was cut after 3 tokens (raise --max-tokens for a longer one)\n")


def test_a_setting_limits_replies(dgtui: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = without_end(dgtui, tiny)
    monkeypatch.setenv("DGTUI_SAMPLER_MAX_TOKENS", "5")
    assert len(json.loads(dgtui(*args, "--json").out)["token_ids"]) == 5
    assert len(json.loads(dgtui(*args, "--json", "--max-tokens", "3").out)["token_ids"]) == 3


@pytest.mark.slow
def test_a_folder_for_the_cache_is_not_needed(tmp_path: Path, tiny: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": "/dev/null/cache"}
    process = start("hi", "-m", tiny, "--steps", "2", stdout=subprocess.PIPE, env=environment)
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)


@pytest.mark.slow
def test_a_reader_that_has_gone_does_not_take_the_recording(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.dgtui"
    process = start("hi", "-m", tiny, *LONG, "--frames", "--record", file, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert (process.wait(30), process.stderr.read()) == (1, b"")
    assert recording.load(file).log.frames()


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_quietly_with_1(tiny: Path) -> None:
    reading, writing = os.pipe()
    process = start("hi", "-m", tiny, "--steps", "3", stdout=writing)
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.slow
def test_a_closed_standard_output_is_said_and_ends_with_1(tiny: Path) -> None:
    command = [sys.executable, "-m", "dgtui", "generate", "hi", "-m", str(tiny)]
    done = subprocess.run(["sh", "-c", '"$0" "$@" >&-', *command], stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(b"dgtui: standard output is closed")


# Images


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("seeing") / "tiny", sees=True)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Pillow.new("RGB", (60, 40), colour).save(path)
    return paths


def test_images_go_to_the_model_and_into_the_recording(
    dgtui: Any, seeing: Path, pictures: list[Path], tmp_path: Path
) -> None:
    record = tmp_path / "run.dgtui"
    args = ("generate", "Compare them.", "--model", seeing, "--steps", "3", "--seed", "5", "--json")
    shown = [part for path in pictures for part in ("--image", path)]
    done = dgtui(*args, *shown, "--record", record)
    assert done.code == 0 and done.err == ""
    job = recording.load(record).log.job
    assert len(job.images) == 2
    assert dgtui(*args, *shown).json["token_ids"] == done.json["token_ids"]
    model = load(resolve(str(seeing)), LoadOptions(device="cpu"))
    again = engine.run(best_stepper(model), job)
    assert next(e for e in again if isinstance(e, Finished)).token_ids[0].tolist() == done.json["token_ids"]


def test_bad_images_are_refused_before_a_model_is_loaded(dgtui: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image at all")
    for name, words in {"notes.png": "notes.png is not an image", "gone.png": "gone.png cannot be read"}.items():
        done = dgtui("generate", "hello", "--image", tmp_path / name, "--model", "nowhere/at-all")
        assert done.code == 4 and words in done.err and done.out == b""


def test_a_model_that_does_not_see_refuses_images(dgtui: Any, tiny: Path, pictures: list[Path]) -> None:
    done = dgtui("generate", "hello", "--image", pictures[0], "--model", tiny)
    assert done.code == 4 and "cannot read images: it has no processor_config.json" in done.err
    done = dgtui("generate", "hello", "--image", pictures[0], "--model", "embedded")
    assert done.code == 4 and "the embedded model cannot read images" in done.err


def test_a_model_loaded_without_its_vision_tower_says_how_to_see(
    dgtui: Any, seeing: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("generate", "hello", "--image", pictures[0], "--model", seeing, "--steps", "2")
    done = dgtui(*args, "--no-vision")
    assert done.code == 4 and "load it with --vision" in done.err
    monkeypatch.setenv("DGTUI_MODEL_VISION", "false")  # whoever gives an image wants it seen
    assert dgtui(*args).code == 0


@pytest.mark.parametrize("other", [("hello", "--raw"), ("--token-ids", "2 5")])
def test_images_need_the_chat_template(other: tuple[str, ...], dgtui: Any, pictures: list[Path]) -> None:
    done = dgtui("generate", *other, "--image", pictures[0])
    assert done.code == 2 and "--image needs the chat template" in done.err


@pytest.mark.parametrize("prompt", ["-5 plus 3", "-x is a letter", "-12"])
def test_a_prompt_with_a_dash_names_the_way_to_give_it(dgtui: Any, prompt: str) -> None:
    refused = dgtui("generate", prompt, "--json")
    assert refused.code == 2
    assert "after --" in refused.err
    assert "after --" not in dgtui("generate", "--jsn", "five").err


def test_a_prompt_after_two_dashes_may_begin_with_one(dgtui: Any, tiny: Path) -> None:
    done = dgtui("generate", "-m", tiny, "--json", "--max-tokens", "4", "--steps", "2", "--", "-5 plus 3")
    assert done.code == 0
    assert len(done.json["token_ids"]) <= 4
