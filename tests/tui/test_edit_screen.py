"""The edit screen with a scripted model behind it: what a person sees and can do, key by key."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from drawn import HOSTILE, is_safe, rows
from drawn import text as drawn_text
from scripted import WORDS, ScriptedBackend
from textual import events
from textual.pilot import Pilot

from dgtui.config import Settings
from dgtui.document.buffer import Buffer
from dgtui.document.journal import Journal
from dgtui.document.open_file import OpenFile
from dgtui.document.source import Source, read
from dgtui.document.undo import Edit
from dgtui.errors import ModelNotFound
from dgtui.steering.proposals import Proposal
from dgtui.tui.proposal_controller import ProposalController
from dgtui.tui.screens import ask
from dgtui.tui.screens.ask import Ask
from dgtui.tui.screens.differences import Differences
from dgtui.tui.screens.edit import EditApp, EditOpening, EditScreen
from dgtui.tui.theme_file import theme_folders

TEXT = "One day the fox sat by the river.\r\n\r\nthe hare stood by the lake\u2028 and sang.\n\tlast"
FOX = " fox sat"


class Speller(ScriptedBackend):
    """A scripted model whose words have the blank before them, as tokens have."""

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        return [b"" if i < 3 else b" " + WORDS[i - 3].encode() for i in ids]


class Seen:
    """The app under test and its parts."""

    def __init__(self, app: EditApp, pilot: Pilot[None], backend: Speller, path: Path) -> None:
        self.app, self.pilot, self.backend, self.path = app, pilot, backend, path

    @property
    def screen(self) -> EditScreen:
        assert self.app.edit is not None
        return self.app.edit

    @property
    def buffer(self) -> Buffer:
        return self.screen.files.file.buffer

    @property
    def proposals(self) -> ProposalController:
        return self.screen.proposals

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        for _ in range(600):
            if holds():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"it never came to pass: {what} ({self.notices()})\n{drawn_text(self.app)}")

    def press_at_once(self, *keys: str) -> None:
        """Presses keys as a terminal sends them that was held up: none waits for the one before."""
        for key in keys:
            self.app.post_message(events.Key(key, key if len(key) == 1 else None))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def span(self, text: str) -> tuple[int, int]:
        start = self.buffer.data.index(text.encode())
        return start, start + len(text.encode())

    async def select(self, text: str) -> None:
        self.screen.editor.select(*self.span(text))
        await self.pilot.pause()

    async def reviewed(self) -> None:
        await self.until(lambda: self.proposals.search is None and self.proposals.review is not None, "a review")
        await self.pilot.pause()

    async def offer(self, old: str, *texts: str) -> None:
        """Opens the review of texts that are proposed for a span."""
        passage = self.proposals.passages.of([self.span(old)])
        passage.add(Proposal((text,), 0.5, 3, 8, 1, 0.1, 7) for text in texts)
        self.proposals.open(passage)
        await self.pilot.pause()

    @property
    def data(self) -> bytes:
        return self.buffer.data

    def notices(self) -> str:
        return " | ".join(n.message for n in self.app._notifications)

    def shown(self) -> str:
        return drawn_text(self.app)


@asynccontextmanager
async def edit(
    folder: Path, text: str | bytes = TEXT, opening: EditOpening | None = None, *, size: tuple[int, int] = (100, 30),
    name: str = "file.md", encoding: str | None = None, **model: Any,
) -> AsyncIterator[Seen]:  # fmt: skip
    path = folder / name
    if not path.exists():
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    backend = Speller(**model)
    file = OpenFile(path, encoding)
    app = EditApp(backend, file, Settings(), opening or EditOpening(seed=3), theme_folders=theme_folders())
    async with app.run_test(size=size) as pilot:
        seen = Seen(app, pilot, backend, path)
        if model.get("error") is None and not model.get("hold_load"):
            await seen.until(lambda: backend.facts is not None, "a model")
        await pilot.pause()
        yield seen
    backend.close()


# Proposing


async def test_a_selection_resolves_in_place_and_the_text_changes_on_accept_alone(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_steps=True) as seen:
        await seen.select(FOX)
        selection, cursor = seen.screen.editor.selection, seen.screen.editor.cursor
        seen.screen.action_rediffuse()
        frames: set[str] = set()
        while seen.proposals.review is None:
            frames.add(seen.shown())
            assert seen.data == TEXT.encode()
            assert (seen.screen.editor.selection, seen.screen.editor.cursor) == (selection, cursor)
            seen.backend.step_gate.let(1)
            for _ in range(40):  # a frame that comes too soon after another is not drawn
                await seen.pilot.pause(0.05)
                if seen.shown() not in frames or seen.proposals.review is not None:
                    break
        assert len(frames) >= 4, "it was seen to resolve"
        await seen.pilot.pause()
        assert seen.data == TEXT.encode()
        assert "proposal 1 of" in seen.shown()
        assert "nats/token" in seen.shown() and "lengths tried" in seen.shown() and "seed" in seen.shown()
        await seen.press("A")
        assert seen.data != TEXT.encode()
        before, after = TEXT.encode().split(FOX.encode())
        assert seen.data.startswith(before) and seen.data.endswith(after)
        changed = seen.data
        assert "●" in seen.shown()
        assert seen.screen.editor.selection == (len(before), len(changed) - len(after))
        await seen.press("ctrl+z")
        assert seen.data == TEXT.encode()
        await seen.press("ctrl+y")
        assert seen.data == changed
        await seen.press("ctrl+s")
        assert seen.path.read_bytes() == changed
        assert "●" not in seen.shown()


async def test_leaving_a_review_restores_everything(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.select(FOX)
        before = seen.shown()
        await seen.press("ctrl+r")
        await seen.reviewed()
        await seen.press("escape")
        assert seen.data == TEXT.encode()
        assert not seen.buffer.changed
        assert seen.shown() == before
        assert seen.screen.editor.has_focus
        await seen.press("x")
        assert seen.data == TEXT.encode().replace(FOX.encode(), b"x")


async def test_old_and_new_are_shown_word_by_word_and_taken_hunk_by_hunk(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.offer("the fox sat by the river", "a fox ran by a sea")
        row = next(row for row in rows(seen.app) if "fox" in row)
        assert "thea fox satran by the rivera sea" in row
        assert "change 1 of 3" in seen.shown()
        await seen.press("down", "enter")
        assert seen.data == TEXT.encode().replace(b"sat", b"ran", 1)
        await seen.press("backspace")
        assert "by the river" in next(row for row in rows(seen.app) if "fox" in row)
        await seen.press("up", "X")
        assert seen.proposals.review is None
        assert seen.data == TEXT.encode().replace(b"sat", b"ran", 1)
        await seen.press("ctrl+z")
        assert seen.data == TEXT.encode()


async def test_no_proposal_is_lost(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.select(FOX)
        await seen.press("ctrl+r")
        await seen.reviewed()
        passage = seen.proposals.passages.of([seen.span(FOX)])
        first = list(passage.proposals)
        await seen.press("g")
        await seen.reviewed()
        assert passage.proposals[: len(first)] == first
        assert seen.backend.jobs[0].seed != seen.backend.jobs[-1].seed
        shown = []
        for _ in passage.proposals:
            await seen.press("n")
            assert passage.proposal is not None
            shown.append(passage.proposal.texts)
        assert sorted(shown) == sorted(o.texts for o in passage.proposals)
        await seen.press("escape")
        await seen.press("ctrl+n")
        assert f"of {len(passage.proposals)}" in seen.shown()
        await seen.press("A", "ctrl+n")
        assert seen.proposals.review is not None and seen.proposals.review.passage is passage


async def test_what_is_there_already_is_no_change(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.offer(FOX, FOX)
        assert "no change" in seen.shown()
        await seen.press("A", "enter")
        assert "nothing to accept" in seen.notices()
        assert seen.proposals.review is not None
        await seen.press("escape")
        assert seen.data == TEXT.encode() and not seen.buffer.changed


async def test_esc_stops_a_run_and_shows_what_is_there(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_steps=True, steps=20) as seen:
        seen.backend.step_gate.let(1)
        await seen.select(FOX)
        await seen.press("ctrl+r")
        await seen.until(lambda: seen.backend.runs[-1].log.frames() and seen.backend.step_gate.held, "a step")
        seen.screen.action_cancel()
        seen.backend.step_gate.open()
        await seen.reviewed()
        assert "stopped" in seen.shown()
        assert seen.data == TEXT.encode()
        await seen.press("escape")
        assert not seen.proposals.active


async def test_a_gap_at_the_cursor_and_marked_spans(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        seen.screen.editor.select(*[seen.span(" sat")[0]] * 2)
        await seen.press("ctrl+g")
        await seen.reviewed()
        await seen.press("A")
        assert seen.data.startswith(b"One day the fox ") and b" sat by the river.\r\n\r\nthe hare" in seen.data
        await seen.press("ctrl+z")
        assert seen.data == TEXT.encode()
        for word in (" fox", " stood"):
            await seen.select(word)
            await seen.press("ctrl+d")
        assert "2 marked" in seen.shown()
        await seen.press("ctrl+r")
        await seen.reviewed()
        await seen.press("A")
        one, _, rest = TEXT.encode().partition(b" fox")
        two, _, three = rest.partition(b" stood")
        assert seen.data.startswith(one) and seen.data.endswith(three) and two in seen.data
        await seen.press("ctrl+z")
        assert seen.data == TEXT.encode()


async def test_a_mark_is_taken_away_again(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("ctrl+d")
        assert "select what to mark" in seen.notices()
        await seen.select(" fox")
        await seen.press("ctrl+d", "ctrl+d")
        assert "marked" not in seen.shown().splitlines()[0]
        await seen.press("ctrl+d", "escape")
        assert "marked" not in seen.shown().splitlines()[0]


async def test_an_instruction_is_typed_in_a_line_below(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.select(FOX)
        await seen.press("ctrl+k", *"say red", "enter")
        await seen.reviewed()
        assert seen.proposals.passages.of([seen.span(FOX)]).proposals[0].instruction == "say red"
        assert len(seen.backend.jobs[0].prompt_ids) > 10
        await seen.press("g")
        await seen.reviewed()
        assert seen.backend.jobs[-1].prompt_ids == seen.backend.jobs[0].prompt_ids
        await seen.press("escape", "ctrl+k", "escape")
        assert seen.screen.editor.has_focus
        assert seen.data == TEXT.encode()


async def test_without_a_selection_there_is_nothing_to_write_anew(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("ctrl+r")
        assert "select what" in seen.notices()
        assert not seen.backend.jobs


# Editing and the model


async def test_editing_works_before_the_model_is_there_and_a_question_waits_for_it(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_load=True) as seen:
        await seen.press(*"Hi ")
        assert seen.data == b"Hi " + TEXT.encode()
        await seen.select(FOX)
        await seen.press("ctrl+r")
        assert "the request waits until the model is loaded" in seen.notices()
        seen.backend.load_gate.open()
        await seen.reviewed()
        assert seen.backend.jobs


async def test_editing_works_without_any_model(tmp_path: Path) -> None:
    async with edit(tmp_path, error=ModelNotFound("no such model", hint="see dgtui model list")) as seen:
        await seen.until(lambda: "no such model" in seen.shown(), "the error")
        await seen.press("a", "ctrl+s")
        assert seen.path.read_bytes() == b"a" + TEXT.encode()


async def test_a_run_that_fails_says_so_and_the_text_can_be_edited(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        seen.backend.denoiser.logits = None  # type: ignore[assignment,method-assign]
        await seen.select(FOX)
        await seen.press("ctrl+r")
        await seen.until(lambda: not seen.proposals.active, "the end")
        assert "TypeError" in seen.notices()
        await seen.press("x")
        assert b"x" in seen.data


async def test_find_goes_on_and_back(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("ctrl+f", *"by the", "enter")
        first = seen.screen.editor.selection
        await seen.press("enter")
        assert seen.screen.editor.selection not in (None, first)
        assert "continued from" not in seen.notices()
        await seen.press("up")
        assert seen.screen.editor.selection == first
        await seen.press("up")
        assert "from the end of the file" in seen.notices() and "beginning" not in seen.notices()
        await seen.press("enter")
        assert "from the beginning of the file" in seen.notices()
        await seen.press(*"nowhere", "enter", "enter", "enter")
        assert seen.notices().count("not found") == 1, "one notice does not pile up"
        await seen.press("escape")
        assert seen.screen.editor.has_focus


async def test_what_is_typed_in_the_line_is_taken_in_its_order(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("ctrl+f")
        seen.press_at_once(*"aq", "backspace", *"x", "ctrl+u", *"fog", "backspace", *"x", "enter")
        await seen.until(lambda: seen.screen.editor.selection == seen.span("fox"), "it is found")


# The file


async def test_opening_and_saving_without_an_edit_touches_nothing(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        before = seen.path.stat()
        await seen.press("ctrl+s", "ctrl+q")
    after = (tmp_path / "file.md").stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)


async def test_what_was_typed_is_saved_however_fast_it_came(tmp_path: Path) -> None:
    async with edit(tmp_path, "b\n") as seen:
        seen.press_at_once("a", "a", "ctrl+s")
        await seen.until(lambda: seen.path.read_bytes() == b"aab\n", "the file is saved")
        seen.press_at_once("c", "ctrl+q")
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "a question")
        assert seen.data == b"aacb\n"


async def test_what_was_accepted_is_saved_however_fast_it_came(tmp_path: Path) -> None:
    async with edit(tmp_path, "one two\n") as seen:
        await seen.offer("two", "three")
        seen.press_at_once("A", "ctrl+s")
        await seen.until(lambda: seen.path.read_bytes() == b"one three\n", "the file is saved")


async def test_a_changed_file_asks_before_it_is_left(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("x", "ctrl+q")
        assert isinstance(seen.app.screen, Ask)
        await seen.press("escape")
        assert seen.app.is_running and seen.data == b"x" + TEXT.encode()
        await seen.press("ctrl+q", "s")
    assert (tmp_path / "file.md").read_bytes() == b"x" + TEXT.encode()
    assert not list(_journals(tmp_path))


async def test_leaving_without_saving_leaves_the_file_and_no_journal(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("x")
        assert list(_journals(tmp_path))
        await seen.press("ctrl+q", "l")
    assert (tmp_path / "file.md").read_bytes() == TEXT.encode()
    assert not list(_journals(tmp_path))


@pytest.mark.parametrize(("key", "on_disk"), [("o", b"x"), ("escape", b"other"), ("r", b"other")])
async def test_a_file_that_changed_on_disk_is_never_overwritten_silently(
    tmp_path: Path, key: str, on_disk: bytes
) -> None:
    async with edit(tmp_path, "") as seen:
        await seen.press("x")
        seen.path.write_bytes(b"other")
        await seen.press("ctrl+s")
        assert isinstance(seen.app.screen, Ask)
        await seen.press("d")
        assert isinstance(seen.app.screen, Differences)
        assert "-other" in seen.shown() and "+x" in seen.shown()
        await seen.press("escape")
        assert isinstance(seen.app.screen, Ask)
        await seen.press(key)
        assert seen.path.read_bytes() == on_disk
        if key == "r":
            assert seen.data == b"other" and not seen.buffer.changed
            await seen.press("ctrl+z")
            assert seen.data == b"x"


async def test_a_file_that_is_gone_cannot_be_reloaded_but_made_again(tmp_path: Path) -> None:
    async with edit(tmp_path, "a") as seen:
        await seen.press("x")
        seen.path.unlink()
        await seen.press("ctrl+s")
        assert "create it again" in seen.shown() and "reload" not in seen.shown()
        await seen.press("r", "d")
        assert isinstance(seen.app.screen, Ask) and seen.data == b"xa"
        await seen.press("o")
        assert seen.path.read_bytes() == b"xa"


async def test_what_is_typed_on_when_a_question_comes_up_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "QUIET", 60.0)
    async with edit(tmp_path, "mine\n") as seen:
        await seen.press("x")
        seen.path.write_bytes(b"another's\n")
        seen.press_at_once("ctrl+s", *"old road")
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "a question")
        await seen.press(*"or")
        assert isinstance(seen.app.screen, Ask) and seen.path.read_bytes() == b"another's\n"
        monkeypatch.setattr(ask, "QUIET", 0.0)
        await seen.press("o")
        assert seen.path.read_bytes() == b"xmine\n"


async def test_a_reload_during_a_review_ends_it(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("x")
        seen.path.write_bytes(b"other")
        await seen.offer("the hare", "the fox")
        await seen.press("ctrl+s", "r")
        assert not seen.proposals.active and seen.data == b"other"
        await seen.press("enter")
        assert seen.data == b"other\n"
        await seen.press("ctrl+z", "ctrl+z")
        assert seen.data == f"x{TEXT}".encode()


async def test_staying_keeps_what_is_being_written(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_steps=True) as seen:
        await seen.press("x")
        await seen.select(FOX)
        await seen.press("ctrl+r")
        await seen.press("ctrl+q")
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "a question")
        await seen.press("escape")
        assert seen.proposals.search is not None and not seen.proposals.search.stopping
        seen.backend.step_gate.open()
        await seen.reviewed()


async def test_saving_under_another_name_asks_before_it_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").write_bytes(b"other")
    monkeypatch.chdir(tmp_path)
    async with edit(tmp_path) as seen:
        await seen.press("x", "ctrl+o", *"there", "enter")
        assert isinstance(seen.app.screen, Ask)
        await seen.press("escape")
        assert (tmp_path / "there").read_bytes() == b"other"
        await seen.press("ctrl+o", *"new.py", "enter")
        assert (tmp_path / "new.py").read_bytes() == b"x" + TEXT.encode()
        assert seen.screen.editor._path == Path("new.py"), "its colours are those of the new name"
        assert seen.path.read_bytes() == TEXT.encode()
        assert "new" in seen.shown().splitlines()[0]
        await seen.press("y", "ctrl+s")
        assert (tmp_path / "new.py").read_bytes() == b"xy" + TEXT.encode()


async def test_a_new_file_is_made_by_the_first_save(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "new.md"
    backend = Speller()
    app = EditApp(backend, OpenFile(path), Settings(), EditOpening(), theme_folders=theme_folders())
    async with app.run_test() as pilot:
        assert "(new)" in drawn_text(app)
        await pilot.press(*"hi", "ctrl+s")
        assert path.read_bytes() == b"hi"
    backend.close()


async def test_other_encodings_stay_what_they_are(tmp_path: Path) -> None:
    text = "One caf\u00e9 fox sat.\r\n".encode("latin-1")
    async with edit(tmp_path, text, encoding="latin-1") as seen:
        assert "iso8859-1" in seen.shown()
        await seen.offer(" fox", " h\u00e4re")
        await seen.press("A", "ctrl+s")
        assert seen.path.read_bytes() == "One caf\u00e9 h\u00e4re sat.\r\n".encode("latin-1")


async def test_what_a_file_and_a_model_hold_cannot_drive_the_terminal(tmp_path: Path) -> None:
    text = HOSTILE.replace("\ud800", "")
    async with edit(tmp_path, f"{text}\nand fox sat\n", name="a\x1b]0;b\x07.md") as seen:
        assert is_safe(seen.app)
        await seen.offer(" fox", f" {text}")
        assert is_safe(seen.app)
        await seen.press("escape", "ctrl+o")
        assert is_safe(seen.app)


# After a crash


def _journals(folder: Path) -> Sequence[Path]:
    return list((folder / "home/.local/state/dgtui/journals").glob("*.journal"))


def _crash(path: Path, new: bytes) -> Source:
    """Leaves a journal as a program does that dies after typing `new` at the beginning."""
    source = read(path)
    journal = Journal(path, source.data)
    journal.record(Edit(0, b"", new))
    journal.flush()
    journal.leave()
    return source


async def test_what_was_typed_before_a_crash_is_offered_and_recovered(tmp_path: Path) -> None:
    path = tmp_path / "file.md"
    path.write_bytes(TEXT.encode())
    _crash(path, b"lost ")
    async with edit(tmp_path) as seen:
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "the question")
        await seen.press("l")
        assert "+lost One day" in seen.shown()
        await seen.press("escape", "r")
        assert seen.data == b"lost " + TEXT.encode()
        assert "●" in seen.shown()
        assert len(_journals(tmp_path)) == 1, "its own"
        await seen.press("ctrl+z")
        assert seen.data == TEXT.encode()
        await seen.press("ctrl+y", "ctrl+s")
    assert path.read_bytes() == b"lost " + TEXT.encode()
    assert not _journals(tmp_path)


@pytest.mark.parametrize(("key", "left"), [("d", 0), ("escape", 1)])
async def test_a_recovery_can_be_declined_or_put_off(tmp_path: Path, key: str, left: int) -> None:
    path = tmp_path / "file.md"
    path.write_bytes(TEXT.encode())
    _crash(path, b"lost ")
    async with edit(tmp_path) as seen:
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "the question")
        await seen.press(key)
        assert seen.data == TEXT.encode()
        assert len(_journals(tmp_path)) == left


async def test_a_journal_of_another_state_of_the_file_becomes_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "file.md"
    path.write_bytes(TEXT.encode())
    _crash(path, b"lost ")
    path.write_bytes(b"something else")
    async with edit(tmp_path) as seen:
        await seen.until(lambda: isinstance(seen.app.screen, Ask), "the question")
        assert "has changed since" in seen.shown()
        await seen.press("c")
        assert seen.data == b"something else"
    assert (tmp_path / "file.md.recovered").read_bytes() == b"lost " + TEXT.encode()
    assert not _journals(tmp_path)


async def test_accepted_text_is_in_the_journal_at_once(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.offer(FOX, " hare ran")
        await seen.press("A")
        (journal,) = _journals(tmp_path)
        assert b"hare" in journal.read_bytes() and b"ran" in journal.read_bytes()


async def test_two_of_them_on_one_file_say_so(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("x")
        async with edit(tmp_path) as other:
            await other.until(lambda: "another dgtui" in other.notices(), "a warning")


async def test_the_palette_offers_ready_instructions(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        commands = {command.title: command for command in seen.screen.commands()}
        assert {"Continue", "Shorten", "Expand", "Fix"} <= commands.keys()
        palette = [command.title for command in seen.app.get_system_commands(seen.screen)]
        assert "Quit" in palette and "Save as" in palette and "Maximize" not in palette
        assert palette.count("Help") == 1 and "Keys" not in palette
        await seen.select(FOX)
        commands["Shorten"].callback()
        await seen.reviewed()
        assert seen.proposals.passages.of([seen.span(FOX)]).proposals[0].instruction == "shorten"


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (40, 10)])
async def test_it_fits_small_terminals_and_asks_those_that_are_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    async with edit(tmp_path, size=size) as seen:
        shown = seen.shown()
        if size[0] < 60:
            assert "60 columns" in shown
        else:
            assert "file.md" in shown and "fox sat" in shown
            await seen.offer(FOX, " hare ran")
            assert "change 1 of" in seen.shown()


# Where things meet: a model that arrives, a terminal that changes, a line that is open


async def test_a_reload_to_a_shorter_file_during_a_review_leaves_the_cursor_in_it(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.press("x")
        await seen.select("last")
        await seen.offer("last", "first")
        seen.path.write_bytes(b"other")
        await seen.press("ctrl+s", "r")
        assert seen.data == b"other" and not seen.proposals.active and seen.screen.editor.has_focus


@pytest.mark.parametrize("key", ["ctrl+n", "ctrl+f"])
async def test_in_a_terminal_that_is_too_small_nothing_else_is_drawn(tmp_path: Path, key: str) -> None:
    async with edit(tmp_path) as seen:
        await seen.offer(FOX, " hare ran")
        await seen.press("escape")
        await seen.select(FOX)
        await seen.press(key)
        await seen.pilot.resize_terminal(50, 10)
        await seen.pilot.pause()
        words = seen.shown().split()
        assert words == "dgtui needs 60 columns and 16 rows. Make the terminal larger; nothing is lost.".split()


async def test_keys_work_again_after_the_terminal_was_too_small(tmp_path: Path) -> None:
    async with edit(tmp_path) as seen:
        await seen.pilot.resize_terminal(40, 10)
        await seen.pilot.resize_terminal(100, 30)
        await seen.pilot.pause()
        await seen.pilot.pause()
        await seen.press("x")
        assert seen.data.startswith(b"x")


async def test_a_question_that_waits_for_the_model_takes_no_keys_from_a_line(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_load=True) as seen:
        await seen.select(FOX)
        await seen.press("ctrl+r", "ctrl+f", "z")
        seen.backend.load_gate.open()
        await seen.until(lambda: seen.backend.facts is not None, "a model")
        await seen.pilot.pause(0.1)
        await seen.press("A", "z")
        assert seen.screen.line.value == "zAz" and not seen.proposals.active
        assert seen.data == TEXT.encode()
        await seen.press("escape")
        await seen.reviewed()


async def test_esc_withdraws_a_question_that_waits(tmp_path: Path) -> None:
    async with edit(tmp_path, hold_load=True) as seen:
        await seen.select(FOX)
        await seen.press("ctrl+r")
        await seen.press("escape")
        assert "withdrawn" in seen.notices()
        seen.backend.load_gate.open()
        await seen.until(lambda: seen.backend.facts is not None, "a model")
        await seen.pilot.pause(0.1)
        assert not seen.proposals.active and not seen.backend.runs


async def test_a_question_to_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    async with edit(tmp_path, error=ModelNotFound("no such model", hint="name another")) as seen:
        await seen.until(lambda: "no such model" in seen.shown(), "why")
        await seen.select(FOX)
        await seen.press("ctrl+r")
        assert "there is no model: no such model" in seen.notices()


async def test_a_passage_that_resolves_is_in_sight(tmp_path: Path) -> None:
    text = "".join(f"line {n:03}\n" for n in range(200))
    async with edit(tmp_path, text, hold_steps=True, size=(80, 24)) as seen:
        seen.backend.step_gate.let(2)
        editor = seen.screen.editor
        await seen.select(f"line {editor.size.height - 1:03}")
        await seen.press("ctrl+r")

        def is_in_sight() -> bool:
            row = editor._rows.find(editor.cursor)[0] - editor.scroll_offset.y
            return seen.proposals.search is not None and 0 <= row < editor.size.height

        await seen.until(is_in_sight, "it is in sight while it resolves")
        await seen.until(lambda: seen.backend.step_gate.held, "a step to stop in")
        await seen.press("escape")
        seen.backend.step_gate.open()
        await seen.reviewed()


@pytest.mark.parametrize("size", [(80, 20), (62, 24)])
async def test_the_cursor_stays_in_sight_when_the_terminal_shrinks(tmp_path: Path, size: tuple[int, int]) -> None:
    text = "".join("word " * 30 + f"end{n:02}\n" for n in range(60))
    async with edit(tmp_path, text, size=(120, 24)) as seen:
        editor = seen.screen.editor
        editor.cursor = seen.span("end59")[0]
        await seen.pilot.pause()
        await seen.pilot.resize_terminal(*size)
        await seen.pilot.pause(0.1)
        row = editor._rows.find(editor.cursor)[0] - editor.scroll_offset.y
        assert 0 <= row < editor.size.height


async def test_a_line_break_that_comes_or_goes_is_seen(tmp_path: Path) -> None:
    async with edit(tmp_path, "two\nthree") as seen:
        await seen.offer("two\nthree", "twothree")
        assert "⏎" in seen.shown()


async def test_the_same_seed_proposes_the_same_text(tmp_path: Path) -> None:
    texts = []
    for name in ("one.md", "two.md"):
        async with edit(tmp_path, name=name) as seen:
            await seen.select(FOX)
            seen.screen.action_rediffuse()
            await seen.reviewed()
            review = seen.proposals.review
            assert review is not None
            texts.append([proposal.texts for proposal in review.passage.proposals])
    assert texts[0] and texts[0] == texts[1]
