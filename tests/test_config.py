"""What `dgtui.config` promises: layers in order; a mistake is named with its place and never stops the program."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dgtui.cli import program
from dgtui.config import RULES, Settings, load
from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import InvalidSettings
from dgtui.paths import config_file
from dgtui.rules import parse_size
from dgtui.tui.commands import SLASHES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def problems_of(file: Path, source: str, **options: object) -> list[str]:
    file.write_text(source, encoding="utf-8")
    return [str(problem).replace(str(file), "config.toml") for problem in load(file, env={}, **options)[1]]


def test_without_a_file_everything_has_its_default(file: Path) -> None:
    assert load(file, env={}) == (Settings(), [])


def test_sampler_defaults_are_left_to_the_checkpoint() -> None:
    assert (Settings().sampler.chosen, Settings().sampler.think) == ({}, None)


def test_the_persons_own_file_and_environment_are_the_default_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("[sampler]\nmax_steps = 12\nstability = 3\n")
    monkeypatch.setenv("DGTUI_SAMPLER_STABILITY", "4")
    taken, problems = load()
    assert (taken.sampler.chosen, problems) == ({"steps": 12, "stability": 4}, [])


def test_every_section_is_read(file: Path) -> None:
    file.write_text(
        """
[model]
name = "tiny"
device = "cuda:1"
context = 8192
gpu_memory = "12GB"
keep_quantized = false
[sampler]
max_steps = 24
t_min = 0.3
t_max = 1
entropy_bound = 0.2
stability = 0
confidence = 0.01
think = true
[screen]
theme = "paper"
max_fps = 60
reduced_motion = true
mouse = false
show_timeline = false
[history]
enabled = false
path = "~/talks.db"
[keys]
"canvas.regenerate" = "g"
canvas.pin = ["p", "ctrl+p"]
"""
    )
    taken, problems = load(file, env={})
    assert problems == []
    assert taken.model.gpu_memory == 12_000_000_000
    assert (taken.model.name, taken.model.device, taken.model.keep_quantized) == ("tiny", "cuda:1", False)
    assert taken.sampler.chosen == {
        "steps": 24, "t_min": 0.3, "t_max": 1.0, "entropy_bound": 0.2, "stability": 0, "confidence": 0.01,
    }  # fmt: skip
    assert taken.sampler.think
    assert (taken.screen.theme, taken.screen.max_fps, taken.screen.mouse) == ("paper", 60, False)
    assert taken.history.path == Path.home() / "talks.db"
    assert taken.keys.bindings == {"canvas.regenerate": ("g",), "canvas.pin": ("p", "ctrl+p")}


def test_options_win_over_environment_over_file_over_default(file: Path) -> None:
    file.write_text('[sampler]\nmax_steps = 2\nstability = 2\nentropy_bound = 2\n[model]\nname = "file"\n')
    env = {"DGTUI_SAMPLER_MAX_STEPS": "3", "DGTUI_SAMPLER_STABILITY": "3", "DGTUI_MODEL_NAME": "environment"}
    flags = {"sampler.max_steps": 4, "model.name": None}
    taken, problems = load(file, env=env, flags=flags)
    assert problems == []
    assert taken.sampler.chosen == {"steps": 4, "stability": 3, "entropy_bound": 2.0}
    assert taken.model.name == "environment"


def test_dgtui_model_names_the_model(file: Path) -> None:
    assert load(file, env={"DGTUI_MODEL": "a"})[0].model.name == "a"
    assert load(file, env={"DGTUI_MODEL": "a", "DGTUI_MODEL_NAME": "b"})[0].model.name == "a"
    assert load(file, env={"DGTUI_MODEL": "", "DGTUI_MODEL_NAME": "b"})[0].model.name == "b"


def test_every_key_can_be_set_from_the_environment(file: Path) -> None:
    given = {
        "model.name": "42",
        "model.device": "cpu",
        "model.server_mode": "blocks",
        "model.stepper": "reference",
        "model.gpu_memory": "11.5GiB",
        "screen.theme": "paper",
        "history.path": "/talks.db",
    }
    for name in RULES:
        variable = "DGTUI_" + name.replace(".", "_").upper()
        taken, problems = load(file, env={variable: given.get(name, "1")})
        section, key = name.split(".")
        assert problems == []
        value = getattr(getattr(taken, section), key, None)
        assert value is not None or list(taken.sampler.chosen.values()) == [1]


def test_keys_can_be_set_from_the_environment(file: Path) -> None:
    env = {"DGTUI_KEYS_CANVAS_SHOW_BRANCHES": "b, ctrl+b"}
    expected = {"canvas.show_branches": ("b", "ctrl+b")}
    assert load(file, env=env)[0].keys.bindings == expected
    assert load(file, env=env, binding_ids=["canvas.show_branches"])[0].keys.bindings == expected


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_name(file: Path) -> None:
    assert problems_of(file, "# mine\n[sampler]\nstability = 2\nmax_stpes = 12\n") == [
        "config.toml:4: unknown setting sampler.max_stpes; not used (did you mean sampler.max_steps?)"
    ]


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one(file: Path) -> None:
    assert problems_of(file, 'theme = "paper"\n[model]\nmax_fps = 3\n') == [
        "config.toml:1: unknown setting theme; not used (did you mean screen.theme?)",
        "config.toml:3: unknown setting model.max_fps; not used (did you mean screen.max_fps?)",
    ]


def test_an_unknown_section_is_named(file: Path) -> None:
    assert problems_of(file, "[samplr]\nt_min = 0.2\n") == [
        "config.toml:2: unknown section samplr; samplr.t_min is not used (did you mean sampler.t_min?)"
    ]
    assert problems_of(file, "model = 3\n") == ["config.toml:1: model is a section: write [model]; not used"]


@pytest.mark.parametrize(
    "line",
    [
        "max_steps = 0",
        "max_steps = 2.5",
        "max_steps = true",
        'max_steps = "12"',
        "t_min = 0",
        "t_max = -1",
        "t_max = nan",
        "t_max = inf",
        "entropy_bound = 0.0",
        "stability = -2",
        "confidence = 0",
        "think = 1",
        "confidence = {a = 1}",
    ],
)
def test_a_bad_value_leaves_the_default_and_is_reported(file: Path, line: str) -> None:
    file.write_text(f"[sampler]\n{line}\n")
    taken, problems = load(file, env={})
    assert taken == Settings()
    assert [(problem.line, problem.source) for problem in problems] == [(2, str(file))]
    assert line.split()[0] in problems[0].message


def test_one_mistake_does_not_cost_the_other_settings(file: Path) -> None:
    file.write_text('[sampler]\nmax_steps = "x"\nstability = 5\n')
    taken, problems = load(file, env={})
    assert (taken.sampler.chosen, len(problems)) == ({"stability": 5}, 1)


@pytest.mark.parametrize(
    ("source", "line"),
    [("[sampler\n", 1), ("[sampler]\nmax_steps = \n", 2), ('a = """\n\n', 4), ("a = 1\na = 2\n", 2)],
)
def test_broken_toml_is_reported_with_its_line(file: Path, source: str, line: int) -> None:
    file.write_text(source)
    taken, problems = load(file, env={})
    assert taken == Settings()
    assert "not TOML" in problems[0].message
    assert problems[0].line in (line, line - 1)  # Python versions differ about an error at the end of a line


def test_a_file_that_is_not_text_is_reported(file: Path) -> None:
    file.write_bytes(b"[model]\nname = '\xff'\n")
    assert [(problem.line, problem.message) for problem in load(file, env={})[1]] == [
        (2, "not UTF-8; the file is not used")
    ]


def test_a_folder_in_place_of_the_file_is_reported(file: Path) -> None:
    file.mkdir()
    assert "a folder, not a file" in load(file, env={})[1][0].message


def test_a_pipe_in_place_of_the_file_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    assert load(file, env={})[1][0].message == "not a regular file; the file is not used"


def test_a_huge_file_is_not_read(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**40)
    assert "too large" in load(file, env={})[1][0].message


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("DGTUI_SAMPLR_MAX_STEPS", "DGTUI_SAMPLER_MAX_STEPS"), ("DGTUI_MODLE", "DGTUI_MODEL"),
     ("DGTUI_HISTROY_ENABLED", "DGTUI_HISTORY_ENABLED")],
)  # fmt: skip
def test_a_variable_that_is_nearly_one_of_ours_is_named(file: Path, variable: str, meant: str) -> None:
    (problem,) = load(file, env={variable: "4"})[1]
    assert str(problem) == f"{variable}: unknown setting; not used (did you mean {meant}?)"


def test_a_bad_variable_leaves_the_files_value_and_is_reported(file: Path) -> None:
    file.write_text("[sampler]\nmax_steps = 7\n")
    env = {"DGTUI_SAMPLER_MAX_STEPS": "many", "DGTUI_SAMPLER_TMIN": "1", "DGTUI_DATA": "x", "HOME": "/"}
    taken, problems = load(file, env=env)
    assert taken.sampler.chosen == {"steps": 7}
    assert [str(problem) for problem in problems] == [
        "DGTUI_SAMPLER_MAX_STEPS: must be a whole number, 1 or more; not used",
        "DGTUI_SAMPLER_TMIN: unknown setting; not used (did you mean DGTUI_SAMPLER_T_MIN?)",
    ]


def test_temperatures_must_not_rise(file: Path) -> None:
    file.write_text("[sampler]\nt_min = 0.8\nt_max = 0.4\n")
    taken, problems = load(file, env={})
    assert taken.sampler.chosen == {}
    assert [problem.line for problem in problems] == [3]
    with pytest.raises(InvalidSettings, match=r"must be at least sampler.t_min \(0.5\)"):
        load(file, env={}, flags={"sampler.t_min": 0.5, "sampler.t_max": 0.4})


def test_one_temperature_for_all_steps_is_taken(file: Path) -> None:
    file.write_text("[sampler]\nt_min = 0.5\nt_max = 0.5\n")
    constant = {"t_min": 0.5, "t_max": 0.5}
    taken, problems = load(file, env={})
    assert (taken.sampler.chosen, problems) == (constant, [])
    assert load(file, env={}, flags={f"sampler.{key}": 0.5 for key in constant})[0].sampler.chosen == constant


def test_a_stability_of_minus_one_means_never(file: Path) -> None:
    assert load(file, env={}, flags={"sampler.stability": -1})[0].sampler.chosen == {"stability": -1}


@pytest.mark.parametrize("flags", [{"sampler.max_steps": 0}, {"sampler.maxsteps": 3}, {"model.device": "gpu"}])
def test_a_bad_option_is_wrong_usage(file: Path, flags: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        load(file, env={}, flags=flags)


def test_an_unknown_binding_is_named_with_the_nearest(file: Path) -> None:
    source = '[keys]\n"canvas.regenrate" = "r"\n"canvas.pin" = ""\n'
    assert problems_of(file, source, binding_ids=["canvas.regenerate", "canvas.pin"]) == [
        "config.toml:2: unknown binding canvas.regenrate; not used (did you mean canvas.regenerate?)",
        'config.toml:3: keys.canvas.pin must be a key such as "r", or a list of keys; not used',
    ]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("sampler.wrong = 1\n", 1),
        ("\n[ sampler ]\n  wrong=1\n", 3),
        ("[model]\nwrong = 1\n[sampler]\n'wrong' = 1\n", 4),
        ("[model]\n\nwrong = 1\n[sampler]\nmax_steps = 3\n", 3),
        ("\nsampler = { wrong = 1 }\n", 2),
    ],
)
def test_the_line_is_found_however_the_key_is_written(file: Path, source: str, line: int) -> None:
    file.write_text(source)
    assert load(file, env={})[1][-1].line == line


def test_a_message_cannot_carry_escape_sequences(file: Path) -> None:
    assert "\x1b" not in "".join(problems_of(file, '["\\u001b[2J"]\n"\\u001b]0;x\\u0007" = 1\n'))


@given(st.one_of(st.text(), st.text(alphabet="[]\"'=.\n #{}sampler_t1")))
@example("[keys]\n\"\" = 'x'\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_stops_the_program(file: Path, source: str) -> None:
    file.write_bytes(source.encode("utf-8", "surrogatepass"))
    load(file, env={})


@pytest.mark.parametrize(
    ("text", "size"), [("12GB", 12 * 10**9), ("11.5 GiB", 23 * 2**29), ("500m", 5 * 10**8), ("1Ti", 2**40)]
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "12", "0GB", "-1GB", "GB", "12 parsecs", "1e3GB", "true", "9" * 400 + "GB"])
def test_a_size_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize("source", ["[screen]\nmax_fps = " + "9" * 5000, "x = " + "[" * 5000 + "]" * 5000])
def test_a_file_that_the_parser_cannot_take_is_a_problem_and_no_crash(tmp_path: Path, source: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(source)
    taken, problems = load(file, env={})
    assert taken == Settings()
    assert "cannot be read as TOML" in problems[0].message


def test_every_sampler_setting_is_a_key_an_option_and_a_chat_command() -> None:
    help = CliRunner(env={"COLUMNS": "200"}).invoke(program("generate"), ["generate", "--help"]).output
    commands = {slash.name for slash in SLASHES}
    for spec in SAMPLER:
        assert f"sampler.{spec.key}" in RULES
        assert spec.option in help
        assert spec.command in commands
