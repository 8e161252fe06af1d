"""SVG in a text, drawn in a process of its own: `python -I -m dgtui.svg WIDTH HEIGHT < SVG > PIXELS`. The pixels
are a line with the width and the height, and three bytes per pixel.

The text is written by a model and may be anything. `washed` writes a new document from what it understands, without any
reference to files or the network. The process has little time and memory, because a valid drawing can still ask for
endless work, and it cannot take the program with it when the library crashes.
"""

import html
import io
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

CPU_SECONDS: Final = 2
"""The most processor time of a drawing."""
MEMORY: Final = 512 << 20
"""The most address space of a drawing, in bytes, where the system can limit it."""
DEEPEST: Final = 60
"""Nested elements; deeper ones are dropped. The library crashes at some thousands."""
LONGEST: Final = 60_000
"""Characters of an SVG that is drawn."""

FONTS: Final = "Arial, Helvetica, DejaVu Sans, Liberation Sans, Noto Sans, sans-serif"
"""Tried for text, after those that it names: the library draws nothing in a font that is not installed."""

_SVG: Final = re.compile(r"<svg[\s>].*?(?:</svg\s*>|\Z)", re.DOTALL)
_FENCE: Final = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_FENCE_BEFORE: Final = re.compile(r"(?:\A|\n)[ \t]*(?:```|~~~)[^\n`]*\n\s*\Z")
_FENCE_AFTER: Final = re.compile(r"\A\s*(?:```|~~~)[ \t]*(?:\n|\Z)")
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)|<!\[CDATA\[|\]\]>", re.DOTALL)
_TAG: Final = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z][\w.-]*)"
    r"(?P<attributes>(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*)\s*(?P<empty>/?)>",
    re.ASCII,
)
_ATTRIBUTE: Final = re.compile(r"([\w:.-]+)\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_OUTSIDE: Final = re.compile(r"url\(\s*['\"]?\s*(?!#)|@import|\\", re.IGNORECASE)
_RASTER: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*\Z", re.ASCII)
_DROPPED: Final = frozenset({"script", "foreignObject", "iframe"})
_WITH_TEXT: Final = frozenset({"text", "tspan", "textPath", "style"})


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text in order, each with whether it is an SVG. A code fence around an SVG is left out.

    The last SVG may have no end yet.
    """
    start = 0
    for found in _SVG.finditer(text):
        before = text[start : found.start()]
        fenced = len(_FENCE.findall(before)) % 2 == 1
        yield _FENCE_BEFORE.sub("\n", before) if fenced else before, False
        yield found.group(), True
        start = found.end()
        if fenced and (fence := _FENCE_AFTER.match(text[start:])):
            start += fence.end()
    yield text[start:], False


def washed(source: str, width: int, height: int) -> str:
    """A well-formed SVG of what can be understood of a text, at most `width` × `height` pixels large.

    Tags that are not well-formed are skipped, open elements are closed. What could refer to something outside is
    dropped: addresses other than `#id` and raster data, imported styles, document types, entities.
    """
    source = _COMMENT.sub("", source)
    made: list[str] = []
    open_: list[str] = []
    at = 0
    for tag in _TAG.finditer(source):
        if open_ and open_[-1] in _WITH_TEXT:
            made.append(_text(source[at : tag.start()], open_[-1]))
        at = tag.end()
        name = tag["name"]
        if name in _DROPPED or not (made or name == "svg"):
            continue
        if tag["end"]:
            while name in open_:
                made.append(f"</{open_[-1]}>")
                if open_.pop() == name:
                    break
            continue
        if len(open_) == DEEPEST:
            continue
        attributes = dict(_attributes(tag["attributes"]))
        if not made:
            attributes = _sized(attributes, width, height)
        written = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
        made.append(f"<{name}{written}{'/' if tag['empty'] and made else ''}>")
        if not tag["empty"] or len(made) == 1:
            open_.append(name)
    return "".join(made) + "".join(f"</{name}>" for name in reversed(open_))


def _text(text: str, element: str) -> str:
    text = html.unescape(re.sub(r"<[^>]*>?", "", text))
    if element == "style" and _OUTSIDE.search(text):
        return ""
    return html.escape("".join(c if c.isprintable() else " " for c in text))


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """The attributes of a tag that refer to nothing outside."""
    for name, double, single in _ATTRIBUTE.findall(text):
        value = "".join(c if c.isprintable() else " " for c in html.unescape(double or single))
        if name == "xlink:href":
            name = "href"
        if name.startswith("xmlns") or ":" in name or _OUTSIDE.search(value):
            continue
        if name == "font-family":
            value = f"{value}, {FONTS}"
        if name == "src" or (name == "href" and not (value.strip().startswith("#") or _RASTER.match(value))):
            continue
        yield name, value


def _sized(attributes: dict[str, str], width: int, height: int) -> dict[str, str]:
    """The attributes of the root for a picture that fits into `width` × `height`."""
    own = [float(n) for n in _NUMBER.findall(attributes.get("viewBox", ""))]
    sides = [_NUMBER.match(attributes.get(name, "").strip()) for name in ("width", "height")]
    if len(own) != 4 or not _is_size(*own[2:]):
        given = [float(side.group()) if side else 0.0 for side in sides]
        own = [0.0, 0.0, *(given if _is_size(*given) else (300.0, 150.0))]
    scale = min(width / own[2], height / own[3])
    pixels = [str(max(1, round(side * scale))) for side in own[2:]]
    return (
        {"font-family": FONTS}
        | attributes
        | {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": " ".join(f"{n:g}" for n in own),
            "width": pixels[0],
            "height": pixels[1],
        }
    )


def _is_size(width: float, height: float) -> bool:
    return all(math.isfinite(side) and 0 < side < 1e12 for side in (width, height))


def main() -> None:
    """Draws the SVG of the standard input. Exits with 1 if it cannot be drawn."""
    import resource  # here: Windows has none, and the screen imports this module

    os.nice(10)  # the model comes first
    with suppress(ValueError, OSError):  # macOS cannot limit address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import resvg_py
    from PIL import Image, PngImagePlugin  # here: the screen must not wait for their import

    width, height = map(int, sys.argv[1:])
    drawing = washed(sys.stdin.buffer.read().decode("utf-8", "replace")[:LONGEST], width, height)
    has_text = "<text" in drawing
    if not has_text:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # only fonts are files
    try:
        png = resvg_py.svg_to_bytes(svg_string=drawing, background="white", skip_system_fonts=not has_text)
    except ValueError:
        sys.exit(1)
    with PngImagePlugin.PngImageFile(io.BytesIO(png)) as image:
        pixels: Image.Image = image.convert("RGB")
    sys.stdout.buffer.write(f"{pixels.width} {pixels.height}\n".encode() + pixels.tobytes())


if __name__ == "__main__":
    main()
