"""Theme files: `themes/*.toml` of the program, and those in the config folder.

A file with a mistake is skipped, and all of its mistakes are reported with file, line and name. No file can raise an
error here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dgtui import paths
from dgtui.mistakes import Problem, TomlError, closest, did_you_mean, in_brackets, line_of, read_toml
from dgtui.tui.theme import ANSI, COLORS, MARKS, Theme

MAX_BYTES: Final = 64 * 1024
"""The maximum size of a theme file."""

_STOPS: Final = (2, 9)
_ATTRIBUTES: Final = ("bold", "dim", "italic", "underline", "strike", "reverse")
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("name", "dark", "colors", "entropy", "marks"),
    "colors": COLORS,
    "entropy": ("ramp",),
    "marks": tuple(MARKS),
}


def theme_folders() -> tuple[Path, Path]:
    """The theme folders: the program's, and the user's, which may not exist.

    Raises:
        RunFailed: The installation has no themes.
    """
    return paths.shipped_dir("themes"), paths.config_file().parent / "themes"


def load_themes(folders: Sequence[Path]) -> tuple[dict[str, Theme], list[Problem]]:
    """All themes by name, sorted, and the mistakes in skipped files.

    A theme replaces one with the same name from an earlier folder. A missing folder counts as empty.
    """
    themes: dict[str, Theme] = {}
    problems: list[Problem] = []
    for folder in folders:
        here: dict[str, Theme] = {}
        for file in _files(folder):
            theme, wrong = load_theme(file)
            if theme is not None and theme.name in here:
                other = here[theme.name].source
                wrong = [Problem(f"skipped: {other and other.name} has the same name, {theme.name}", str(file))]
            elif theme is not None:
                here[theme.name] = theme
            problems += wrong
        themes |= here
    return dict(sorted(themes.items())), problems


def load_theme(file: Path) -> tuple[Theme | None, list[Problem]]:
    """The theme of a file, or all mistakes in it."""
    try:
        source, table = read_toml(file, MAX_BYTES)
    except TomlError as error:
        return None, [Problem(error.message, str(file), error.line)]
    reader = _Reader(file, source, table)
    theme = reader.theme()
    return (None, sorted(reader.problems, key=lambda problem: problem.line or 0)) if reader.problems else (theme, [])


def stamp(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, modification time and size of every theme file. Load the themes again when this changes."""
    files = []
    for folder in folders:
        for file in _files(folder):
            try:
                status = file.stat()
            except OSError:  # removed since, or not readable: part of the state too
                files.append((str(file), 0, -1))
            else:
                files.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(files)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except OSError:
        return []


@dataclass
class _Reader:
    """Turns a table into a theme and collects the mistakes in it."""

    file: Path
    source: str
    table: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def theme(self) -> Theme | None:
        self._refuse_unknown("", self.table)
        name, dark = self.table.get("name", self.file.stem), self.table.get("dark", True)
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]{0,39}", name):
            self._wrong("name", "name must start with a letter and have at most 40 letters, digits, - and _")
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
        """The known keys of a section. Reports the unknown ones."""
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            self._wrong(name, f"{name} is a section: write [{name}]")
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
        """Whether the terminal's colours are used. A mixture is an error, because the contrast between a terminal's
        colour and a theme's own is unknown."""
        is_ansi = not colors["primary"].startswith("#")
        kind = "the terminal's" if is_ansi else "#rrggbb"
        for name, used in (
            *((f"colors.{key}", [color]) for key, color in colors.items()),
            ("entropy.ramp", list(ramp)),
            *((f"marks.{key}", _colors_in(mark)) for key, mark in marks.items()),
        ):
            for color in used:
                if color.startswith("#") is is_ansi:
                    self._wrong(name, f"{name}: {color} in a theme whose colors.primary is {kind}: use one kind", color)
        return is_ansi

    def _wrong(self, key: str, message: str, value: Any = None) -> None:
        line = line_of(key, self.source, value if isinstance(value, str) else "")
        self.problems.append(Problem(message, str(self.file), line))


def _color(value: Any) -> str | None:
    """Lower-case "#rrggbb", or one of `ANSI`; None for anything else."""
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
    """A mark in rich's notation: attributes, optionally after "not", one colour, and one ground after "on".

    Raises:
        ValueError: It is anything else; the message says what.
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
