"""A conversation on its own: all that was said is in the file, and each turn is one section."""

import hashlib
import json
import os
import stat
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dgtui.errors import RunFailed
from dgtui.session.export import FileExists, to_json, to_markdown, write
from dgtui.session.store import Attachment, Conversation, Stored, TextFile, Turn

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ABOUT = Conversation("bcd234", "River notes", WHEN, WHEN, "nano", "", {"max_steps": 48}, 2)
NASTY = [
    "```",
    "````",
    "~~~",
    "```py",
    "~~~ x",
    "    ```",
    "- ",
    "  ",
    "> ",
    "1. ",
    "\n",
    "\n\n",
    "text",
    "<!--",
    "-->",
]
NASTY += ["<script>", "</script>", "<pre", "<style ", "<textarea\n", "<?php", "<!DOCTYPE", "<![CDATA[", "<div>", "<a"]
NASTY += [
    "</details>",
    "\t",
    "# no",
    "===",
    "---",
    "[a]: b",
    "|a|b|",
    "\\",
    "`",
    "\r\n",
    "\r",
    "\0",
    "\x1b[2J",
    "\ud800",
]
nasty = st.lists(st.sampled_from(NASTY), max_size=12).map("".join)


FILE = TextFile("[x]\x1b.txt", "fish")


def stored(*turns: Turn) -> list[Stored]:
    return [Stored(i + 1, i, turn, WHEN) for i, turn in enumerate(turns)]


def sections(markdown: str) -> list[str]:
    """The headings that are in no list, quote or fence, as a reader of Markdown sees them."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    return [after.content for token, after in pairwise(tokens) if (token.type, token.level) == ("heading_open", 0)]


def test_a_conversation_reads_as_markdown() -> None:
    turns = stored(
        Turn("user", "Why do rivers meander?", images=(Attachment("a_b.png", "f00d"),), files=(FILE,)),
        Turn("model", "**Water** runs.", (6, 7), "Hm.", 8, 14, "eos", 1.5),
        Turn("user", "And then?"),
        Turn("model", "Then", finished=False),
    )
    about = Conversation("bcd234", "River *notes*", WHEN, WHEN, "nano", "Be brief.", {}, 4)
    assert to_markdown(about, turns) == (
        "# River \\*notes\\*\n\n"
        "nano · 2026-01-02 03:04 UTC · conversation bcd234\n\n"
        "## System\n\nBe brief.\n\n"
        "## You\n\nImage: a\\_b.png\n\n"
        f"File: \\[x\\]␛.txt (4 bytes, SHA-256 {hashlib.sha256(b'fish').hexdigest()})\n\nWhy do rivers meander?\n\n"
        "## Model\n\n<details>\n<summary>Thought</summary>\n\nHm.\n\n</details>\n\n**Water** runs.\n\n"
        "*seed 8 · 14 denoising steps · 1.5 s · stop: eos*\n\n"
        "## You\n\nAnd then?\n\n"
        "## Model\n\nThen\n\n*a draft*\n"
    )


def test_code_survives_as_it_is() -> None:
    reply = "Run:\n\n```python\nif x:\n\tprint('<b>')\n```\n\n~~~~\n```\n~~~~\n\n    indented"
    reply += "\n\n- a\n  ```\n  in a list\n  ```"
    assert reply in to_markdown(ABOUT, stored(Turn("model", reply)))


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        ("```python\nx = 1", "x = 1\n```\n"),
        ("~~~~\n```\nx", "x\n~~~~\n"),
        ("<!-- why", "<!-- why\n-->\n"),
        ("a\n\n<pre>\n\nb", "b\n</pre>\n"),
        ("- a\n  ```\n  x", "  ```\n  x\n"),  # ends with the list
        ("use `<!--` and ``` here", "here\n"),
    ],
)
def test_what_a_reply_leaves_open_is_closed(reply: str, end: str) -> None:
    assert to_markdown(ABOUT, stored(Turn("model", reply))).endswith(end)
    assert sections(to_markdown(ABOUT, stored(Turn("model", reply), Turn("user", "x"))))[-2:] == ["Model", "You"]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(nasty, nasty, nasty)
def test_every_turn_is_a_section_whatever_is_said(title: str, said: str, thought: str) -> None:
    about = Conversation("bcd234", title, WHEN, WHEN, "nano", said, {}, 3)
    turns = stored(Turn("model", said, thought=thought), Turn("user", said), Turn("model", "The end."))
    markdown = to_markdown(about, turns)
    expected = ["Model", "You", "Model"]
    assert [heading for heading in sections(markdown) if heading in ("You", "Model")] == expected
    assert MarkdownIt("commonmark").parse(markdown)[-2].content == "The end."
    assert all(character in "\n\t" or character.isprintable() or ord(character) > 0x9F for character in markdown)
    markdown.encode()


def test_no_control_character_reaches_the_terminal_that_shows_the_file() -> None:
    markdown = to_markdown(ABOUT, stored(Turn("model", "a\x1b[2Jb\x9b31m\x07\r\nc\td 👩\u200d💻")))
    assert "a␛[2Jb\ufffd31m␇\nc\td 👩\u200d💻" in markdown


def test_json_has_everything() -> None:
    turns = stored(
        Turn("user", "Why \x1b?", images=(Attachment("a.png", "f00d"),), files=(FILE,)),
        Turn("model", "Water.", (6, 7), "Hm.", 2**63 - 1, 14, "eos", 1.5, False),
    )
    content = to_json(ABOUT, turns)
    assert json.loads(json.dumps(content)) == content
    assert (content["format"], content["version"], content["id"]) == ("dgtui.conversation", 1, "bcd234")
    assert content["settings"] == {"max_steps": 48} and content["created"] == "2026-01-02T03:04:05+00:00"
    question, reply = content["turns"]
    assert question["text"] == "Why \x1b?" and question["seed"] is None
    assert (question["images"], question["image_digests"]) == (["a.png"], ["f00d"])
    assert question["files"] == [{"path": FILE.path, "digest": FILE.digest, "text": "fish"}]
    for field in Turn.__dataclass_fields__:
        assert field in reply
    assert reply["token_ids"] == [6, 7] and reply["seed"] == 2**63 - 1 and reply["finished"] is False


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / "a.md", "é\n")
        (tmp_path / "b.md").write_text("old")
        write(tmp_path / "b.md", "new", overwrite=True)
    finally:
        os.umask(before)
    assert (tmp_path / "a.md").read_bytes() == "é\n".encode()
    for name in ("a.md", "b.md"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.md", "b.md", "home"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("old")
    with pytest.raises(FileExists, match="already exists") as refusal:
        write(path, "new")
    assert refusal.value.hint and path.read_text() == "old"
    write(path, "new", overwrite=True)
    assert path.read_text() == "new"
    (tmp_path / "link.md").symlink_to(path)
    with pytest.raises(FileExists):
        write(tmp_path / "link.md", "newer")
    write(tmp_path / "link.md", "newer", overwrite=True)
    assert path.read_text() == "newer" and (tmp_path / "link.md").is_symlink()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_written_is_a_failure_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing/a.md", "file/a.md", "pipe", ".", "n" * 300, "nul\0", "loop"):
        with pytest.raises(RunFailed) as failure:
            write(tmp_path / name, "x", overwrite=overwrite)
        assert failure.value.hint

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailed, match="No space left"):
        write(tmp_path / "a.md", "x", overwrite=overwrite)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "home", "loop", "pipe"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailed):
        write(tmp_path / "a.md", "new", overwrite=True)
    assert (tmp_path / "a.md").read_text() == "old"
