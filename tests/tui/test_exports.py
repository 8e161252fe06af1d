"""Replays and exports show every step as it was, in files that load nothing and run no foreign code."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import tempfile
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyte
import pytest
from fakes import CANVAS, EOS, VOCAB, NumericDenoiser, certain
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from recorded import HOSTILE, PIECES, TALE, ended, hostile, recorded, run

from dgtui.diffusion.events import BlockStarted, Frame, StopReason
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused
from dgtui.session.recording import Recording
from dgtui.text import cell_width
from dgtui.tui.exports import cast, gif, svg, web
from dgtui.tui.exports.exporter import ASKED, LAST_SECONDS, Exporter, step_seconds
from dgtui.tui.exports.recorded_run import IDLE, RecordedRun, stop_ids
from dgtui.tui.frames import view_at
from dgtui.tui.theme_file import load_themes, theme_folders

THEMES = load_themes(theme_folders()[:1])[0]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029\ufeff]")
OURS = re.compile(r"\x1b\[(?:\d+(?:;\d+)*m|\d+;\d+H|2J|\?25[lh])")


def exporter(recording: Recording, theme: str = "midnight", width: int = 60) -> Exporter:
    return Exporter(RecordedRun(recording), THEMES[theme], width)


def every(exporter: Exporter) -> list[int]:
    return list(range(len(exporter.recorded)))


def with_frames(recording: Recording, **changes: list[Any]) -> Recording:
    """The recording with changed values in its frames, which are used in turn."""
    log = recording.log
    frames = iter(range(10**6))

    def changed(event: Any) -> Any:
        if not isinstance(event, Frame):
            return event
        at = next(frames)
        return dataclasses.replace(event, **{name: values[at % len(values)] for name, values in changes.items()})

    return dataclasses.replace(recording, log=RunLog(log.job, [changed(event) for event in log]))


# A played


def test_every_step_is_what_the_chat_showed(tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    played = RecordedRun(recording)
    assert len(played) == len(recording.log.frames()) > 12
    for at, frame in enumerate(played.frames):
        _, shown = view_at(recording.log, frame.block, frame.step, 0, played.pieces, played.stop_ids)
        view = played.view(at)
        assert (view.pieces, view.end) == (shown.pieces, shown.end)
        for mine, other in ((view.settled, shown.settled), (view.flags, shown.flags), (view.entropy, shown.entropy)):
            assert np.array_equal(mine, other)


def test_the_end_of_a_reply_is_found_without_the_model(tmp_path: Path) -> None:
    played = RecordedRun(recorded(tmp_path, ended()))
    assert played.stop_ids == {EOS}
    assert played.view(len(played) - 1).end == TALE.index(EOS)
    assert played.text(len(played) - 1) == b"".join(PIECES[i] for i in TALE[:9]).decode()
    assert played.recording.log.finished is not None
    assert played.recording.log.finished.reason is StopReason.EOS


def test_fill_ends_a_reply_that_was_stopped(tmp_path: Path) -> None:
    log = ended()
    stopped = recorded(tmp_path, RunLog(log.job, list(log)[:-1]))
    assert stop_ids(stopped) == {EOS}


def test_a_run_that_never_ended_its_reply_has_no_end(tmp_path: Path) -> None:
    played = RecordedRun(recorded(tmp_path))
    assert played.stop_ids == frozenset()
    assert all(played.view(at).end == CANVAS for at in range(len(played)))


def test_blocks_before_are_part_of_the_text(tmp_path: Path) -> None:
    played = RecordedRun(recorded(tmp_path))
    last = len(played) - 1
    assert played.earlier(0) == ()
    assert [len(played.earlier(end)) for end in played.block_ends] == [0, CANVAS, 2 * CANVAS]
    assert played.text(last).startswith(played.text(played.block_ends[0]))
    assert played.recording.log.finished is not None
    (ids,) = played.recording.log.finished.token_ids
    assert played.text(last) == b"".join(PIECES[i] for i in ids.tolist()).decode()


def test_the_prompt_is_what_the_person_said(tmp_path: Path) -> None:
    assert RecordedRun(recorded(tmp_path)).prompt == "Tell me of the river."
    other = {**PIECES, 1: b"no markup"}
    assert RecordedRun(recorded(tmp_path, pieces=other)).prompt.startswith("no markup")


def test_meters_are_those_of_the_step_and_the_end_is_said_at_the_end(tmp_path: Path) -> None:
    played = RecordedRun(recorded(tmp_path, ended()))
    last = len(played) - 1
    assert "end of reply" in played.meters(last, 200)
    assert not any("end of reply" in played.meters(at, 200) for at in range(last))
    assert "9 tokens" in played.meters(last, 200)
    assert played.status(0).startswith("block 1 · step 1/8 · ")


def test_times_of_a_file_may_be_anything_and_never_go_back(tmp_path: Path) -> None:
    wrong = [float("nan"), float("-inf"), 1e308, -5.0, float("inf"), 0.5, 1e300, 3.0]
    played = RecordedRun(with_frames(recorded(tmp_path), seconds=wrong, mean_entropy=wrong, temperature=wrong))
    for times in (played.seconds, played.pace):
        assert len(times) == len(played)
        assert all(0 <= a <= b < 1e7 for a, b in pairwise(times))
    drawn = exporter(played.recording)
    assert all(0 <= bar.height <= 1 for bar in drawn.bars())
    check_cast(cast.document(drawn, every(drawn)))
    check_html(web.page(drawn, every(drawn)))
    check_svg(svg.picture(drawn, every(drawn)))


def test_a_break_is_shortened_for_playing_and_kept_in_the_times(tmp_path: Path) -> None:
    seconds = [1.0 + at + (600.0 if at > 3 else 0.0) for at in range(100)]
    played = RecordedRun(with_frames(recorded(tmp_path), seconds=seconds))
    assert played.seconds[:5] == (1.0, 2.0, 3.0, 4.0, 605.0)
    assert played.pace[:6] == (0.0, 1.0, 2.0, 3.0, 3.0 + IDLE, 4.0 + IDLE)


def test_what_holds_no_step_is_refused(tmp_path: Path) -> None:
    log = run()
    started = next(event for event in log if isinstance(event, BlockStarted))
    with pytest.raises(RecordingRefused, match="no denoising step"):
        RecordedRun(recorded(tmp_path, RunLog(log.job, [started])))


def test_each_candidate_has_a_course_of_its_own(tmp_path: Path) -> None:
    recording = recorded(tmp_path, run(candidates=3, max_tokens=CANVAS))
    texts = [RecordedRun(recording, candidate).text(7) for candidate in range(3)]
    assert len(set(texts)) == 3
    assert RecordedRun(recording).text(7) in texts
    assert "candidate 2 of 3" in RecordedRun(recording, 1).status(0)


def test_steps_are_chosen_evenly_and_the_last_is_among_them(tmp_path: Path) -> None:
    played = RecordedRun(recorded(tmp_path))
    last = len(played) - 1
    assert played.chosen(1) == [last]
    assert played.chosen(2) == [0, last]
    assert played.chosen(10**6) == list(range(last + 1))
    gaps = np.diff(played.chosen(5))
    assert len(gaps) == 4 and gaps.max() - gaps.min() <= 1


# SVG


def check_svg(text: str) -> ET.Element:
    """Checks that a picture is XML with harmless elements, loads nothing, and draws nothing outside its edges."""
    assert not CONTROL.search(text)
    root = ET.fromstring(text)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        assert tag in {"svg", "title", "style", "rect", "text", "path", "g"}
        assert not any(name.lower().startswith("on") or "href" in name for name in element.attrib)
        if tag in ("text", "rect"):
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            across = float(element.attrib.get("textLength", element.attrib.get("width", 0)))
            assert x >= 0 and x + across <= width and 0 <= y <= height
    style = root.findtext("{*}style") or ""
    assert "url(" not in style and "@import" not in style and "@font-face" not in style and "</" not in style
    return root


def words(root: ET.Element) -> str:
    found = "".join(e.text or "" for e in root.iter() if e.tag.endswith("text") and (e.get("class") or "")[0] == "c")
    return "".join(found.split())


def test_a_picture_has_the_text_of_its_step(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path, ended()))
    last = len(drawn.recorded) - 1
    root = check_svg(svg.picture(drawn, [last]))
    assert words(root) == "".join(drawn.recorded.text(last).split())
    assert any("Tell me of the river." in (e.text or "") for e in root.iter())
    assert any("end of reply" in (e.text or "") for e in root.iter())


def test_a_strip_has_one_snapshot_per_step(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path))
    for count in (1, 2, 5):
        root = check_svg(svg.picture(drawn, drawn.recorded.chosen(count)))
        assert sum((e.text or "").startswith("block ") for e in root.iter()) == count


def test_an_animation_shows_each_step_in_turn_and_the_last_without_animation(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path, ended()))
    steps = every(drawn)
    root = check_svg(svg.animation(drawn, steps))
    groups = [element for element in root.iter() if element.tag.endswith("}g")]
    assert ["".join("".join(group.itertext()).split()).startswith(f"block1·step{at + 1}/") for at, group in
            enumerate(groups)] == [True] * len(steps)  # fmt: skip
    style = root.findtext("{*}style") or ""
    spans = [
        (
            float(re.findall(r"([\d.]+)%{visibility:visible}", line)[0]),
            re.findall(r"([\d.]+)%{visibility:hidden}$", line),
        )
        for line in re.findall(r"@keyframes k\d+{(.*)}", style)
    ]
    starts = [start for start, _ in spans]
    assert starts[0] == 0 and starts == sorted(set(starts)) and len(starts) == len(steps)
    assert [float(end[0]) for _, end in spans[:-1]] == starts[1:] and not spans[-1][1]
    assert f".s{len(steps) - 1}{{visibility:visible}}" in style and "prefers-reduced-motion" in style


def test_wide_signs_take_two_cells(tmp_path: Path) -> None:
    rain = next(i for i, piece in PIECES.items() if piece == " 雨".encode())
    drawn = exporter(recorded(tmp_path, run(NumericDenoiser(script=certain([rain] * CANVAS)), max_tokens=CANVAS)))
    last = check_svg(svg.picture(drawn, [len(drawn.recorded) - 1]))
    (text,) = [e for e in last.iter() if e.tag.endswith("text") and "雨" in (e.text or "") and e.get("textLength")]
    assert float(text.attrib["textLength"]) == pytest.approx(cell_width(text.text or "") * 8.4, abs=0.01)


@pytest.mark.parametrize("theme", sorted(THEMES))
def test_every_theme_has_colours_outside_of_a_terminal(theme: str, tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path), theme)
    text = svg.picture(drawn, drawn.recorded.chosen(3))
    fills = re.findall(r'fill[:="]+([^";}]+)', text)
    assert fills and all(re.fullmatch("#[0-9a-f]{6}", fill) for fill in fills)
    check_html(web.page(drawn, every(drawn)))
    check_cast(cast.document(drawn, every(drawn)))


# HTML


class Reader(HTMLParser):
    """Collects the elements of a page, and their texts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text.setdefault(self.inside[-1], []).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def check_html(text: str) -> tuple[Reader, dict[str, Any]]:
    """Checks that a page has only known elements and that its policy allows only its own script and style."""
    assert not CONTROL.search(text)
    page = Reader()
    page.feed(text)
    page.close()
    assert page.inside == []
    known = "html head meta title style script body main p div span svg rect button input label select option output"
    assert {tag for tag, _ in page.elements} <= set(known.split())
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "href", "style") for name in attributes), tag
    data, code = page.text["script"]
    (policy,) = [a["content"] or "" for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    (style,) = page.text["style"]
    for source in (code, style):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'" in policy
    assert "url(" not in style and "@import" not in style
    assert "http" not in style + code and "innerHTML" not in code
    content = json.loads(data)
    assert not set(data) & set("<>&")
    pages = len(content["pages"])
    assert pages == len(content["status"]) == len(content["meters"]) == len(content["times"]) == len(content["bars"])
    assert content["times"] == sorted(content["times"])
    assert all(number < len(content["rows"]) for rows in content["pages"] for number in rows)
    return page, content


def texts(content: dict[str, Any], at: int) -> str:
    return "".join("".join(text for text in content["rows"][number][1::2]) for number in content["pages"][at])


def test_a_page_holds_every_step_and_shows_the_last_without_scripts(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path))
    page, content = check_html(web.page(drawn, every(drawn), first=3))
    assert content["first"] == 3
    assert len(content["pages"]) == len(drawn.recorded)
    last = "".join(drawn.recorded.text(len(drawn.recorded) - 1).split())
    assert "".join(texts(content, -1).split()) == last
    assert "".join("".join(page.text["span"]).split()) == last


def test_a_row_that_stays_is_stored_once(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path))
    _, content = check_html(web.page(drawn, every(drawn)))
    assert len({json.dumps(row) for row in content["rows"]}) == len(content["rows"])


# asciinema


def check_cast(text: str) -> pyte.Screen:
    """Checks that every line is JSON, times never decrease, and all sequences are ours. Returns the final screen."""
    header, *events = [json.loads(line) for line in text.splitlines()]
    assert header["version"] == 2
    assert [kind for _, kind, _ in events] == ["o"] * len(events)
    times = [time for time, _, _ in events]
    assert times[0] == 0 and times == sorted(times)
    sent = "".join(data for _, _, data in events)
    assert not CONTROL.search(OURS.sub("", sent)) and "\n" not in sent
    screen = pyte.Screen(header["width"], header["height"])
    pyte.Stream(screen).feed(sent)
    return screen


def test_a_film_ends_with_the_last_step_on_the_screen(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path, ended()))
    last = len(drawn.recorded) - 1
    screen = check_cast(cast.document(drawn, every(drawn)))
    rows = [row.rstrip() for row in screen.display]
    assert rows[1] == f" {ASKED}Tell me of the river."
    assert rows[2].startswith(" block 1 · step ")
    assert "".join("".join(rows[3:-5]).split()) == "".join(drawn.recorded.text(last).split())
    assert rows[-3].startswith(" ") and "end of reply" in rows[-3]


def test_a_film_shows_every_step_for_the_same_time_however_long_the_model_took(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path))
    events = [json.loads(line) for line in cast.document(drawn, every(drawn)).splitlines()][1:]
    each = step_seconds(len(drawn.recorded))
    assert [time for time, _, _ in events[1:-1]] == pytest.approx([at * each for at in every(drawn)], abs=1e-5)
    assert events[-1][0] - events[-2][0] == pytest.approx(LAST_SECONDS)


def test_a_gif_shows_every_step_and_holds_the_last(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path, ended()), width=60)
    film = Image.open(io.BytesIO(gif.animation(drawn, every(drawn))))
    times = []
    for at in range(film.n_frames):
        film.seek(at)
        times.append(film.info["duration"])
    assert film.n_frames == len(drawn.recorded) and film.info["loop"] == 0
    assert times == [round(1000 * step_seconds(len(times)))] * (len(times) - 1) + [round(1000 * LAST_SECONDS)]
    assert film.width == 2 * 18 + 60 * 9


def test_moving_pictures_have_a_legend(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path, ended()))
    assert "just settled" in "".join(check_svg(svg.animation(drawn, every(drawn))).itertext())
    assert "just settled" in "\n".join(check_cast(cast.document(drawn, every(drawn))).display)
    narrow = exporter(recorded(tmp_path, ended()), width=24)
    assert sum(len(text) for text, _ in narrow.legend) <= 24


def test_a_film_in_the_terminals_colours_names_no_others(tmp_path: Path) -> None:
    drawn = exporter(recorded(tmp_path), "terminal")
    text = cast.document(drawn, every(drawn))
    assert "theme" not in json.loads(text.splitlines()[0])
    assert "38;2" not in text and "48;2" not in text


# Harm


def test_a_hostile_recording_is_harmless_in_every_kind(tmp_path: Path) -> None:
    drawn = exporter(hostile(tmp_path))
    check_svg(svg.picture(drawn, every(drawn)))
    page, content = check_html(web.page(drawn, every(drawn)))
    assert len(page.text["script"]) == 2
    assert any("<script>" in "".join(row[1::2]) for row in content["rows"]), "it is shown as the text it is"
    check_cast(cast.document(drawn, every(drawn)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.binary(max_size=9), st.text(max_size=6).map(lambda t: t.encode("utf-8", "surrogatepass")),
                       st.sampled_from(HOSTILE)), min_size=VOCAB, max_size=VOCAB),
    st.text(max_size=20).filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name)),
    st.integers(20, 90),
)  # fmt: skip
@example([b"<script"] * VOCAB, "http://xlink <script", 20)
def test_whatever_tokens_are_made_of_no_film_is_harmed(pieces: list[bytes], model: str, width: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = recorded(Path(folder), run(max_tokens=CANVAS), pieces=dict(enumerate(pieces)), model=model)
    drawn = exporter(recording, width=width)
    check_svg(svg.picture(drawn, drawn.recorded.chosen(3)))
    check_html(web.page(drawn, every(drawn)))
    check_cast(cast.document(drawn, every(drawn)))
