"""Theme files: `themes/*.toml` beside the program, and the person's own in the config folder.

A file is a theme or it is not: with one mistake in it, the file is skipped and all of its mistakes are reported, by
file, line and name. Nothing that a file holds, or is, can raise.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dgtui import paths
from dgtui.mistakes import TomlError, closest, did_you_mean, in_brackets, line_of, read_toml
from dgtui.text import sanitize
from dgtui.tui.theme import ANSI, COLORS, MARKS, Theme

MAX_BYTES: Final = 64 * 1024
"""A larger file is no theme."""

_STOPS: Final = (2, 9)
_ATTRIBUTES: Final = ("bold", "dim", "italic", "underline", "strike", "reverse")
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("name", "dark", "colors", "entropy", "marks"),
    "colors": COLORS,
    "entropy": ("ramp",),
    "marks": tuple(MARKS),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file was skipped. `str()` gives the whole message, safe to show."""

    file: Path
    line: int | None
    """1-based, where it is known."""
    message: str

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return sanitize(f"{place}: {self.message}", newlines=False, tabs="replace")


def theme_folders() -> tuple[Path, Path]:
    """Where themes are: the program's folder, and the person's, which need not exist.

    Raises:
        RunFailed: If the installation lacks its themes.
    """
    return paths.shipped_dir("themes"), paths.config_file().parent / "themes"


def load_themes(folders: Sequence[Path]) -> tuple[dict[str, Theme], list[Problem]]:
    """All themes of some folders by name, sorted, and what was wrong with the files that were skipped.

    A theme of a later folder replaces one of the same name in an earlier folder. A folder that is missing is empty.
    """
    themes: dict[str, Theme] = {}
    problems: list[Problem] = []
    for folder in folders:
        here: dict[str, Theme] = {}
        for file in _files(folder):
            theme, wrong = load_theme(file)
            if theme is not None and theme.name in here:
                other = here[theme.name].source
                wrong = [Problem(file, None, f"skipped: {other and other.name} is named {theme.name} too")]
            elif theme is not None:
                here[theme.name] = theme
            problems += wrong
        themes |= here
    return dict(sorted(themes.items())), problems


def load_theme(file: Path) -> tuple[Theme | None, list[Problem]]:
    """The theme of a file, or everything that is wrong with it."""
    try:
        source, table = read_toml(file, MAX_BYTES)
    except TomlError as error:
        return None, [Problem(file, error.line, error.message)]
    reader = _Reader(file, source, table)
    theme = reader.theme()
    return (None, sorted(reader.problems, key=lambda problem: problem.line or 0)) if reader.problems else (theme, [])


def stamp(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, time of change and size of every theme file: another tuple means that they are to be loaded again."""
    found = []
    for folder in folders:
        for file in _files(folder):
            try:
                status = file.stat()
            except OSError:  # gone since, or not ours to see: that is a state as well
                found.append((str(file), 0, -1))
            else:
                found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except OSError:
        return []


@dataclass
class _Reader:
    """Turns a table into a theme and collects what is wrong with it."""

    file: Path
    source: str
    table: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def theme(self) -> Theme | None:
        self._refuse_unknown("", self.table)
        name, dark = self.table.get("name", self.file.stem), self.table.get("dark", True)
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]{0,39}", name):
            self._wrong("name", "name must be letters, digits, - and _, beginning with a letter, at most 40")
        if not isinstance(dark, bool):
            self._wrong("dark", "dark must be true or false")
        colors = {key: self._color("colors", key, value) for key, value in self._section("colors")}
        if "primary" not in colors and isinstance(self.table.get("colors", {}), dict):
            self._wrong("colors", "colors.primary is missing")
        ramp = self._ramp(dict(self._section("entropy")).get("ramp"))
        marks = {key: self._mark(key, value) for key, value in self._section("marks")}
        if self.problems:
            return None
        ansi = self._kind(colors, ramp, marks)
        return Theme(name, dark, colors, ramp, marks, ansi, self.file)

    def _section(self, name: str) -> Iterator[tuple[str, Any]]:
        """The known keys of a section; the first look at it reports the unknown ones."""
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            self._wrong(name, f"{name} is a section, to be written as [{name}]")
            return
        self._refuse_unknown(name, table)
        yield from ((key, value) for key, value in table.items() if key in _KEYS[name])

    def _refuse_unknown(self, section: str, table: Mapping[str, Any]) -> None:
        for key in table:
            if key not in _KEYS[section]:
                path = f"{section}.{key}".removeprefix(".")
                self._wrong(path, f"unknown key {path}{_nearest(key, _KEYS[section])}")

    def _ramp(self, value: Any) -> tuple[str, ...]:
        low, high = _STOPS
        if value is None:
            self._wrong("entropy", "entropy.ramp is missing")
        elif not isinstance(value, list) or not low <= len(value) <= high:
            self._wrong("entropy.ramp", f"entropy.ramp must be a list of {low} to {high} colours")
        else:
            return tuple(self._color("entropy", "ramp", stop) for stop in value)
        return ()

    def _color(self, section: str, key: str, value: Any) -> str:
        color = _color(value)
        if color is None:
            name = f"{section}.{key}"
            hint = _nearest(value, ANSI) if isinstance(value, str) else ""
            self._wrong(name, f"{name}: {value!r:.60} is not a colour such as #7aa2f7 or cyan{hint}", value)
        return color or ""

    def _mark(self, key: str, value: Any) -> str:
        try:
            return _mark(value)
        except ValueError as error:
            self._wrong(f"marks.{key}", f"marks.{key}: {error}")
            return ""

    def _kind(self, colors: Mapping[str, str], ramp: Sequence[str], marks: Mapping[str, str]) -> bool:
        """Whether the colours are the terminal's. A mixture of both kinds is refused: on an unknown ground none of the
        theme's own colours is sure to be readable, and the other way round."""
        first = not colors["primary"].startswith("#")
        kind = "the terminal's" if first else "#rrggbb"
        for name, used in (
            *((f"colors.{key}", [color]) for key, color in colors.items()),
            ("entropy.ramp", list(ramp)),
            *((f"marks.{key}", _colors_in(mark)) for key, mark in marks.items()),
        ):
            for color in used:
                if color.startswith("#") is first:
                    self._wrong(name, f"{name}: {color} in a theme whose colors.primary is {kind}: not both", color)
        return first

    def _wrong(self, key: str, message: str, value: Any = None) -> None:
        self.problems.append(
            Problem(self.file, line_of(key, self.source, value if isinstance(value, str) else ""), message)
        )


def _color(value: Any) -> str | None:
    """ "#rrggbb" in lower case, or one of the terminal's colours; None if it is neither."""
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if match := re.fullmatch(r"#([0-9a-f])([0-9a-f])([0-9a-f])", text):
        return "#" + "".join(2 * digit for digit in match.groups())
    if re.fullmatch(r"#[0-9a-f]{6}", text):
        return text
    name = text.removeprefix("ansi_")
    return name if name in ANSI else None


def _mark(value: Any) -> str:
    """A mark in rich's words: attributes, each perhaps after "not", one colour, and one ground after "on".

    Raises:
        ValueError: If it is anything else; the message says what.
    """
    if not isinstance(value, str):
        raise ValueError(f'must be text such as "bold" or "on #2a2f4a", not {value!r:.60}')
    shown: list[str] = []
    words = iter(value.lower().split())
    for word in words:
        if word == "not":
            shown.append(f"not {_one_of(_ATTRIBUTES, next(words, ''), 'an attribute')}")
        elif word == "on":
            ground = next(words, "")
            shown.append(f"on {_color(ground) or _one_of(ANSI, ground, 'a colour')}")
        elif word != "none":
            shown.append(_color(word) or _one_of((*_ATTRIBUTES, *ANSI), word, "an attribute or a colour"))
    for kind in ("on ", ""):
        if sum(bool(_colors_in(part)) and part.startswith("on ") == bool(kind) for part in shown) > 1:
            raise ValueError(f"two {'grounds' if kind else 'colours'} in {value!r:.60}")
    return " ".join(shown)


def _one_of(words: Sequence[str], word: str, what: str) -> str:
    if word not in words:
        raise ValueError(f"{word!r:.60} is not {what}{_nearest(word, words)}" if word else f"{what} is missing")
    return word


def _colors_in(mark: str) -> list[str]:
    return [word for word in mark.split() if word not in ("on", "not", *_ATTRIBUTES)]


def _nearest(word: str, words: Sequence[str]) -> str:
    return in_brackets(did_you_mean(closest(word.lower(), words)))
