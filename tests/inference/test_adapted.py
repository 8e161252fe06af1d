"""Edits, later turns, tales run on the model with an adapter for them, everything else does not."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from checkpoints import opened
from fakes import SETTINGS, NumericDenoiser

from dgtui.diffusion import engine, schedule
from dgtui.diffusion.events import Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.diffusion.settings import SamplerSettings
from dgtui.inference.adapted import TEMPERATURES, Adapted, PromptReader, adapter_for
from dgtui.inference.passing import PassingStepper
from dgtui.inference.routed import RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EDITS, EMBEDDED, TALES
from dgtui.model.loader import read_tokenizer
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.steering.instructions import message
from dgtui.train.lessons import LESSONS
from dgtui.train.lessons.turns import THANKS

PURE_NOISE = Start()


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return read_tokenizer(opened(EMBEDDED))


@pytest.fixture(scope="module")
def reader(tokenizer: ModelTokenizer) -> PromptReader:
    return PromptReader(tokenizer.chat, tokenizer.decode, tokenizer.encode)


def asked(*contents: str) -> list[Message]:
    """A conversation in which the user and the model take turns."""
    return [Message("model" if at % 2 else "user", text) for at, text in enumerate(contents)]


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        (EDITS, ("fix: teh end",)),
        (EDITS, ("Shorten: The fox ran.\nIt ran far.",)),
        (EDITS, ("rename Clara to Otto: Clara ran.",)),
        (EDITS, ("make it a whale instead of a fox: The story ran.",)),
        (EDITS, ("Tell me a tale.", "Once.", "put this in the past tense: She runs.")),
        (TALES, ("Tell me a tale.",)),
        (TALES, ("Write a tale about the fix: Anna.",)),
        (TALES, ("once upon a time there was a king. Go on!",)),
        (TALES, ("Write something about Otto",)),
        (TALES, ("Hello", "Hello!", "a tale")),
        (TALES, ("Tell me a tale.", "Once.", "shorter")),
        (TALES, ("Tell me a tale.", "Once.", "and another one, with a whale", "Twice.", "the same but with Ines")),
        (TALES, ("Tell me a tale.", "Once.", "now about Otto the bear")),
        (EDITS, ("Tell me a tale.", "Once.", "thanks")),
        (EDITS, ("Tell me a tale.", "Once.", "how do I pin a word?")),
        (EDITS, ("Tell me a tale.", "Once.", "now as JSON: Anna has 3 cats.", "{}", "another one: Ben has 2 dogs.")),
        (EDITS, ("Tell me a tale.", "Once.", "now a function that tells whether a story is long")),
        (EDITS, ("Hello", "Hello!", "JSON: Anna has 3 cats.")),
        (EDITS, ("Hello", "Hello!", "another one")),
        (None, ("JSON: Anna has 3 cats.",)),
        (None, ("make this JSON: the story has 3 parts.",)),
        (None, ("fix it",)),
        (None, ("another one",)),
        (None, ("Is it stale?",)),
    ],
)
@pytest.mark.parametrize("system", [[], [Message("system", "Be brief.")]], ids=["", "after a system prompt"])
def test_what_the_user_says_decides_which_adapter_runs(
    name: str | None, contents: Sequence[str], system: list[Message], reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    said = reader.read(tokenizer.chat([*system, *asked(*contents)])).asked
    assert said == [*contents[::2]] and adapter_for(said) == name


@pytest.mark.parametrize("lesson", ["tales", "tale turns"])
def test_tales_and_what_people_say_to_get_the_next_one_go_to_the_adapter_for_tales(lesson: str) -> None:
    examples = [LESSONS[lesson](random.Random(seed)) for seed in range(500)]
    said = [
        [turn.content for turn in example.messages() if turn.role == "user"]
        for example in examples
        if example.response != THANKS
    ]
    assert sum(adapter_for(each) == TALES for each in said) > 0.99 * len(said) > 400


def test_an_infill_with_an_instruction_is_an_edit_wherever_its_text_begins(
    reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    told = message("rename Clara to Otto", ("Once. ", "Clara ran.", ""), reads_marks=False)
    ids = tokenizer.chat([Message("system", "Be brief."), Message("user", told)])
    assert adapter_for(reader.read([*ids, *tokenizer.encode("Once. ")]).asked) == EDITS
    assert not reader.read(tokenizer.encode("fix: teh end")).asked and not reader.read([]).asked


def test_an_edit_or_a_later_turn_is_written_by_its_own_model_in_all_blocks() -> None:
    def chat(messages: Sequence[Message]) -> list[int]:
        return [1, *(i for m in messages for i in (2, 7 if m.content.startswith("fix") else 8, 3))]

    own, other = NumericDenoiser(), NumericDenoiser()
    reader = PromptReader(
        lambda m: [1, 2, 8 + (m[0].content == "b"), 3],
        lambda ids: "fix: it" if 7 in ids else "else",
        lambda text: [4],
    )
    stepper = RoutedStepper(ReferenceStepper(own), [Adapted(ReferenceStepper(other), reader, EDITS, SETTINGS, (3, 0))])

    def run(*contents: str) -> RunLog:
        job = Job("a job", tuple(chat(asked(*contents))), 3, 2 * own.canvas_length, SETTINGS)
        return RunLog(job, engine.run(stepper, job))

    log = run("tale", "once", "fix: it")
    assert len(log.blocks()) == other.commits + 1 == 2 and not own.seen
    job = log.fork(1, 2, "again", 3)
    again = RunLog(job, engine.run(stepper, job))
    assert [f.canvas.tolist() for f in again.frames(1)[:2]] == [f.canvas.tolist() for f in log.frames(1)[:2]]
    assert stepper.log_probs([log.blocks()[0].ids])[0].any() and not own.seen
    steps = len(other.seen)
    run("fix: it", "it", "tale")
    assert len(other.seen) > steps and not own.seen
    steps = len(other.seen)
    run("tale")
    assert own.seen and len(other.seen) == steps


@pytest.mark.parametrize(
    ("given", "used"), [((0.4, 0.8), TEMPERATURES[EDITS]), ((0.3, 0.8), (0.3, 0.8)), ((0.4, 1.0), (0.4, 1.0))]
)
def test_it_has_its_own_temperatures_unless_the_user_chose_others(
    given: tuple[float, float], used: tuple[float, float], reader: PromptReader
) -> None:
    own = replace(SETTINGS, t_min=0.4, t_max=0.8)
    stepper = Adapted(ReferenceStepper(NumericDenoiser()), reader, EDITS, own, (3, 0))
    settings = replace(own, t_min=given[0], t_max=given[1])
    log = RunLog(job := Job("a job", (1, 2), 3, 1, settings), engine.run(stepper, job))
    steps = [schedule.temperature(settings.steps - at, settings.steps, *used) for at in range(len(log.frames()))]
    assert [frame.temperature for frame in log.frames()] == steps


class Begun(PassingStepper):
    """A stepper for canvases of 24 that only keeps how its newest one starts."""

    starts: Sequence[Start] = ()

    def __init__(self) -> None:
        super().__init__(ReferenceStepper(NumericDenoiser()))
        self.canvas_length = 24

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        pass

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        self.starts = starts
        return []


END, FILL = 3, 0


def started(
    contents: Sequence[str],
    reader: PromptReader,
    tokenizer: ModelTokenizer,
    start: Start = PURE_NOISE,
    written: str = "",
) -> Start:
    """How a reply starts.

    Args:
        written: What the prompt holds of it already.
    """
    begun = Begun()
    stepper = Adapted(begun, reader, EDITS, SETTINGS, (END, FILL))
    stepper.encode([*tokenizer.chat(asked(*contents)), *tokenizer.encode(written)])
    stepper.begin([start], SETTINGS)
    (first,) = begun.starts
    stepper.begin([PURE_NOISE], SETTINGS)
    assert begun.starts == [PURE_NOISE], "only the first canvas of a run"
    return first


def laid(ids: Sequence[int], length: int = 24) -> tuple[int, ...]:
    """A text on a canvas or in a gap of it."""
    return (*ids, END, *[FILL] * length)[:length]


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (("fix: Teh fox ran to Zoltanne.",), "Teh fox ran to Zoltanne."),
        (("Hello", "Hello!", "expand: It ran: far."), "It ran: far."),
        (("Tell me a tale.", "Zoltanne ran.", "and another one", "She sat.", "call her Ines"), "She sat."),
        (("fix: " + "far and " * 40,), "far and " * 40),
    ],
)
def test_a_reply_starts_from_the_text_that_it_changes(
    contents: Sequence[str], text: str, reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    start = started(contents, reader, tokenizer)
    assert start == Start(laid(tokenizer.encode(text)), noised=True)


@pytest.mark.parametrize("before", ["Once. ", "Once.\n", ""])
@pytest.mark.parametrize("length", [3, 9])
def test_the_gap_of_an_infill_starts_from_the_passage(
    before: str, length: int, reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    kept = tokenizer.encode(before.rstrip(" "))
    gap = range(len(kept), len(kept) + length)
    ids = [*kept, *[FILL] * length, *range(20, 44)][:24]
    pinned = frozenset(range(24)) - {*gap}
    start = started(("fix: Teh fox ran.",), reader, tokenizer, Start(tuple(ids), pinned))
    passage = tokenizer.encode(before[len(before.rstrip(" ")) :] + "Teh fox ran.")
    assert start.ids is not None and start.ids[gap.start : gap.stop] == laid(passage, length)
    assert [start.ids[place] for place in pinned] == [ids[place] for place in pinned]
    assert start.pinned == pinned and start.noised


@pytest.mark.parametrize(
    ("contents", "start", "written"),
    [
        (("Tell me a tale.",), PURE_NOISE, ""),
        (("fix: Teh fox ran.",), PURE_NOISE, "The fox"),
        (("fix: Teh fox ran.",), Start((7,) * 24), ""),
        (("fix: Teh fox ran.",), Start((FILL,) * 24, strength=0.5), ""),
        (("fix: Teh fox ran.",), Start((FILL,) * 24, noised=True), ""),
        (("fix: Teh fox ran.",), Start((FILL,) * 24, frozenset(range(24))), ""),
        (("Hello", "Hello!", "call her Ines"), Start((FILL,) * 24, frozenset({3})), ""),
    ],
)
def test_every_other_start_stays_as_it_is(
    contents: Sequence[str], start: Start, written: str, reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    assert started(contents, reader, tokenizer, start, written) == start
