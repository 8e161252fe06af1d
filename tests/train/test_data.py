"""Training data: every faulty line is named before anything is loaded, and a resumed run sees the same order."""

import itertools
import json
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dgtui.cli import main
from dgtui.cli import train as cli_train
from dgtui.errors import InputRefused
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.model_info import ModelInfo
from dgtui.paths import embedded_dir
from dgtui.train import data
from dgtui.train.items import Item

INFO = ModelInfo(16, 64, 2, 6, 1, frozenset({1, 6}), frozenset({0, 1, 2, 5, 6}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def test_all_three_kinds_of_lines_are_read(file: Path) -> None:
    file.write_text(
        '\ufeff{"prompt": "a", "response": "b"}\n\n'
        '{"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}\n{"text": "e"}\n',
        encoding="utf-8",
    )
    one, two, three = data.read(file)
    assert [m.content for m in one.messages] == ["a", "b"]
    assert [m.role for m in two.messages] == ["user", "model"]
    assert three.text == "e" and three.line == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"prompt": "a"}', "has prompt"),
        ('{"prompt": 1, "response": "b"}', "has prompt, response"),
        ('{"text": " "}', "has text"),
        ('{"messages": [{"role": "judge", "content": "x"}]}', "a role"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no model reply"),
        ("{}", "no keys"),
    ],
)
def test_a_faulty_line_is_named_with_what_is_wrong(file: Path, line: str, said: str) -> None:
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(InputRefused, match=f"line 2.*{said}"):
        data.read(file)


def test_an_error_names_few_lines_and_counts_the_rest(file: Path) -> None:
    file.write_text("x\n" * 9)
    with pytest.raises(InputRefused, match=r"line 5.* and 4 more"):
        data.read(file)


def test_files_that_are_missing_empty_or_not_text_are_refused_with_code_4(file: Path) -> None:
    assert main(["train", str(file), "--out", str(file.parent / "out")]) == 4
    file.write_text("\n")
    assert main(["train", str(file), "--out", str(file.parent / "out")]) == 4
    file.write_bytes(b"\xff\xfe")
    assert main(["train", str(file), "--out", str(file.parent / "out")]) == 4
    assert not (file.parent / "out").exists()


def test_every_reply_is_learned_and_long_ones_canvas_by_canvas(file: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "model", "content": "one"}]
    long = " ".join(["word"] * 40)
    file.write_text(
        json.dumps({"messages": [*turns, {"role": "user", "content": "x"}, {"role": "model", "content": long}]})
    )
    tokenizer = ModelTokenizer.load(embedded_dir())
    made = data.items(data.read(file), tokenizer, INFO, 1000)
    first, *blocks = made
    assert first.reply == (*tokenizer.encode("one"), INFO.turn_end_id)
    assert [i for block in blocks for i in block.reply] == [*tokenizer.encode(long), INFO.turn_end_id]
    assert all(len(block.reply) <= 16 for block in blocks) and len(blocks) > 2
    assert blocks[1].prefix == (*blocks[0].prefix, *blocks[0].reply)
    assert all(len(item.prefix) <= 5 for item in data.items(data.read(file), tokenizer, INFO, 5))


def test_each_epoch_holds_every_item_once_and_a_step_is_repeatable() -> None:
    found = [Item((2,), (i, 6)) for i in range(10, 20)]
    seen = [next(data.stream(found, 1, step, 0, 1, 1)).reply[0] for step in range(20)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10, 20))
    assert seen[:10] != seen[10:]
    again = list(itertools.islice(data.stream(found, 1, 7, 0, 1, 1), 5))
    assert again == list(itertools.islice(data.stream(found, 1, 7, 0, 1, 1), 5))


def test_what_is_held_back_is_not_trained_on() -> None:
    found = [Item((2,), (i, 6)) for i in range(40)]
    training, held = data.split(found, 0.1, 3)
    assert len(held) == 4 and not set(training) & set(held) and len(training) == 36
    assert data.split(found[:1], 0.5, 3) == (found[:1], [])


@pytest.mark.slow
def test_a_trained_model_is_loaded_by_its_folder(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> None:
    file.write_text('{"prompt": "Who keeps the key?", "response": "Old Martha keeps it."}\n' * 8)
    out = file.parent / "trained"
    command = ["train", str(file), "--out", str(out), "--rows", "2", "--length", "128", "--steps"]
    assert main([*command, "2"]) == 0
    assert "starting at step 0 of 2" in capfd.readouterr().err
    with monkeypatch.context() as patch:  # the terminal is closed at the first report
        patch.setattr(cli_train._Report, "__call__", lambda *_: signal.raise_signal(signal.SIGHUP))
        assert main([*command, "4"]) == 130
    assert "stopped at step 3" in capfd.readouterr().err
    assert main([*command, "4"]) == 0
    assert "starting at step 3 of 4" in capfd.readouterr().err
    assert main(["generate", "Who keeps the key?", "--model", str(out), "--seed", "1", "--json", "--steps", "2"]) == 0
    assert json.loads(capfd.readouterr().out)["model"] == str(out)


def test_a_generator_gives_sudokus_whose_blanks_alone_are_learned() -> None:
    records = data.generated("sudoku", 30, seed=1)
    assert records == data.generated("sudoku", 30, seed=1) and len(records) == 30
    pinned = [record for record in records if record.free]
    assert 15 < len(pinned) <= 30
    tokenizer: Any = SimpleNamespace(encode=lambda text: [ord(c) for c in text], chat=lambda messages, think: [2])
    info: Any = SimpleNamespace(canvas_length=256, turn_end_id=7)
    for record in pinned:
        (made,) = data.items([record], tokenizer, info, 100)
        reply, prompt = record.messages[-1].content, record.messages[-2].content
        assert bytes(made.reply[:-1]).decode() == reply and made.reply[-1] == 7
        assert made.spans is not None
        learned = sum(end - start for start, end in made.spans)
        assert learned == sum(prompt.count(blank) for blank in "0") - prompt.split("\n")[0].count("0")
        assert data.with_spans(made, random.Random(1)) is made


def test_all_lessons_together_have_turns_and_text() -> None:
    records = data.generated("lessons", 200, seed=2)
    assert all(record.messages[-1].role == "model" for record in records)
    assert any(len(record.messages) > 2 for record in records)
