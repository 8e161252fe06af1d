"""An SVG of a model is drawn by the real library, in its process, and nothing in it reaches a file or the network."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from dgtui.svg import LONGEST, parts, washed
from dgtui.tui.picture import Picture, Undrawable, draw

NAMESPACE = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
WHITE, RED = (255, 255, 255), (255, 0, 0)


def drawn(source: str, columns: int = 20, rows: int = 10) -> Picture:
    return asyncio.run(draw(source, columns, rows))


def colours(picture: Picture) -> set[tuple[int, ...]]:
    return {tuple(picture.rgb[at : at + 3]) for at in range(0, len(picture.rgb), 3)}


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that offers a red picture under every address, and the requests that it got."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", asked
        finally:
            serving.shutdown()
            thread.join()


def test_a_drawing_fits_the_cells_and_keeps_its_proportions() -> None:
    picture = drawn('<svg viewBox="0 0 40 20"><rect width="40" height="20" fill="red"/></svg>')
    assert (picture.width, picture.height) == (20, 10) and colours(picture) == {RED}
    rows = picture.rows(20)
    assert len(rows) == 5 and rows[0].fragments[0].content.plain == "▀" * 20
    tall = drawn('<svg width="10" height="40"><rect width="9" height="9"/></svg>')
    assert (tall.width, tall.height) == (5, 20)


def test_a_terminal_without_colours_gets_shades() -> None:
    picture = asyncio.run(draw('<svg viewBox="0 0 2 1"><rect width="1" height="1"/></svg>', 4, 4, color=False))
    content = picture.rows(4)[0].fragments[0].content
    assert content.plain == "██  " and not any(span.style.background for span in content.spans)


def test_an_odd_number_of_pixel_rows_leaves_the_last_half_cell_free() -> None:
    picture = Picture(1, 3, bytes(9))
    (*_, last) = picture.rows(5)
    assert last.fragments[0].content.spans[0].style.background is None


@pytest.mark.parametrize(
    "unfinished",
    [
        '<svg viewBox="0 0 2 2"><rect width="2" height="2" fill="red"/>',
        '<svg viewBox="0 0 2 2"><g><rect width="2" height="2" fill="red"/><circle cx="…',
        '<svg viewBox="0 0 2 2"><rect wid…<rect width="2" height="2" fill="red"/><path d=…</svg>',
        '<svg viewBox="0 0 2 2"><g><rect width="2" height="2" fill="red"/></svg>',
        '<svg viewBox="0 0 2 2"><rect width="2" height="2" fill="red"></g></text></rect></svg>',
        "<svg viewBox='0 0 2 2'><!-- <circle r='9'/> --><rect width='2' height='2' fill='red'/><!-- …",
    ],
)
def test_what_is_there_of_an_unfinished_drawing_is_drawn(unfinished: str) -> None:
    assert colours(drawn(unfinished)) == {RED}


def test_text_is_drawn() -> None:
    picture = drawn('<svg viewBox="0 0 40 20"><text x="2" y="15" font-size="16">a &lt; b &amp; c</text></svg>', 40, 20)
    assert len(colours(picture)) > 2


OUTSIDE = [
    '<image width="20" height="20" href="{}"/>',
    '<image width="20" height="20" xlink:href="{}"/>',
    '<image width="20" height="20" xlink:href=" {} "/>',
    '<g xmlns:x="http://www.w3.org/1999/xlink"><image width="20" height="20" x:href="{}"/></g>',
    '<filter id="f"><feImage href="{}"/></filter><rect width="20" height="20" fill="white" filter="url(#f)"/>',
    '<use href="{}#a"/>',
    '<style>@import url("{}");</style>',
    '<style>rect {{ fill: url({}#a) }}</style><rect width="20" height="20" fill="white"/>',
    '<rect width="20" height="20" fill="url({}#a) white"/>',
    '<foreignObject width="20" height="20"><img src="{}"/></foreignObject>',
    '<text y="9" fill="white" style="font-family: x; src: url({})">a</text>',
    '<image width="20" height="20" href="data:image/svg+xml,&lt;svg xmlns=\'http://www.w3.org/2000/svg\'&gt;'
    "&lt;image width='20' height='20' href='{}'/&gt;&lt;/svg&gt;\"/>",
]
"""Elements that refer to something outside, each 20 × 20."""


@pytest.mark.parametrize("where", ["path", "file address", "name", "web address"])
def test_nothing_outside_is_read(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (20, 20), "red").save(path)
    monkeypatch.chdir(tmp_path)
    with server() as (address, asked):
        targets = {"path": str(path), "file address": path.as_uri(), "name": path.name, "web address": f"{address}/red"}
        target = targets[where]
        row = "".join(
            f'<g transform="translate({20 * at})">{element.format(target)}</g>' for at, element in enumerate(OUTSIDE)
        )
        source = f'<svg {NAMESPACE} viewBox="0 0 {20 * len(OUTSIDE)} 20">{row}</svg>'
        assert target not in washed(source, 20, 20)
        assert RED not in colours(drawn(source, 20 * len(OUTSIDE)))
    assert asked == []


def test_a_picture_inside_the_drawing_is_drawn(tmp_path: Path) -> None:
    import base64
    import io

    made = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(made, "PNG")
    data = base64.b64encode(made.getvalue()).decode()
    source = f'<svg viewBox="0 0 2 2"><image width="2" height="2" href="data:image/png;base64,{data}"/></svg>'
    assert colours(drawn(source)) == {RED}


def test_entities_are_never_expanded() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    source = f'<!DOCTYPE svg [<!ENTITY e0 "ha">{entities}]><svg viewBox="0 0 2 2"><text>&e9;</text></svg>'
    (svg,) = (part for part, is_svg in parts(source) if is_svg)
    assert colours(drawn(source.replace("<!DOCTYPE", "<svg><!DOCTYPE"))) <= {WHITE}
    assert "ENTITY" not in washed(svg, 9, 9) and "&e9;" not in washed(svg, 9, 9).replace("&amp;e9;", "")


@pytest.mark.parametrize(
    "size",
    [
        'width="1e9" height="1e9"', 'width="1000000000px" height="1"', 'viewBox="0 0 1e9 1"', 'viewBox="0 0 1 1e9"',
        'viewBox="0 0 1e-9 1e300"', 'viewBox="0 0 nan inf"', 'viewBox="0 0 0 0"', 'width="-5" height="5"',
        'viewBox="0 0 1e999 1"', "",
    ],
)  # fmt: skip
def test_no_size_makes_a_picture_larger_than_its_cells(size: str) -> None:
    picture = drawn(f'<svg {size}><rect width="1e12" height="1e12" fill="red"/></svg>')
    assert 1 <= picture.width <= 20 and 1 <= picture.height <= 20


@pytest.mark.parametrize(
    "work",
    [
        '<filter id="f"><feTurbulence numOctaves="1000000000" baseFrequency="0.01"/></filter>'
        '<rect width="9" height="9" filter="url(#f)"/>',
        '<g id="a0"><rect width="9" height="9"/></g>'
        + "".join(f'<g id="a{n}">' + f'<use href="#a{n - 1}"/>' * 10 + "</g>" for n in range(1, 10)),
    ],
    ids=["endless filter", "a billion uses"],
)
def test_endless_work_ends(work: str) -> None:
    with pytest.raises(Undrawable):
        drawn(f'<svg viewBox="0 0 9 9">{work}</svg>')


def test_neither_depth_nor_length_nor_blur_brings_it_down() -> None:
    assert colours(drawn('<svg viewBox="0 0 9 9">' + "<g>" * 9_000 + '<rect width="9" height="9" fill="red"/>'))
    blur = '<filter id="f" x="-1e6" y="-1e6" width="1e9" height="1e9"><feGaussianBlur stdDeviation="1e8"/></filter>'
    assert drawn(f'<svg viewBox="0 0 9 9">{blur}<rect width="9" height="9" filter="url(#f)"/></svg>').rgb
    with pytest.raises(Undrawable, match="too long"):
        drawn("<svg>" + " " * LONGEST + "</svg>")
    with pytest.raises(Undrawable):
        drawn("no drawing at all")


def test_the_parts_of_a_text_are_in_order_and_fences_around_a_drawing_are_gone() -> None:
    text = "one\n\n```svg\n<svg>a</svg>\n```\n\ntwo <svg viewBox='0 0 1 1'>b</svg> three\n```python\nx = 1\n```\n<svg>c"
    made = [(part.strip(), is_svg) for part, is_svg in parts(text)]
    assert made == [
        ("one", False), ("<svg>a</svg>", True), ("two", False), ("<svg viewBox='0 0 1 1'>b</svg>", True),
        ("three\n```python\nx = 1\n```", False), ("<svg>c", True), ("", False),
    ]  # fmt: skip
    assert [*parts("a < b, <svga>")] == [("a < b, <svga>", False)]
