"""Writes single settings into `config.toml`. Comments, order and everything else in the file stay as they are."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dgtui.atomic import write_private
from dgtui.config import RULES
from dgtui.errors import InvalidSettings
from dgtui.mistakes import TomlError, read_toml
from dgtui.paths import config_file, private_dir

_MOST_BYTES: Final = 1 << 20


def change(values: Mapping[str, object | None], path: Path | None = None) -> Path:
    """Sets settings by their dotted name ("screen.theme"); None removes one, and its default counts again.

    Returns:
        The file that was written.

    Raises:
        InvalidSettings: A name or a value is wrong, or the file is not TOML. Nothing is written.
        RunFailed: The file cannot be written. What was there is still there.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = config_file() if path is None else path
    for name, value in values.items():
        check(name, value)
    try:
        source, before = read_toml(path, _MOST_BYTES)
    except TomlError as error:
        if not error.is_missing:
            raise InvalidSettings(f"{path} is not changed: {error.message}", hint="correct the file first") from error
        source, before = "", {}
    try:
        document = tomlkit.parse(source)
        for name, value in values.items():
            _set(document, name, value)
        text = document.as_string()
        after = tomllib.loads(text)
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise InvalidSettings(f"{path} cannot be changed", hint="write the setting into it by hand") from error
    for name, value in values.items():  # the file may be written in ways that tomlkit would not keep
        _set(before, name, value)
    if _without_empty(after) != _without_empty(before):
        raise InvalidSettings(f"{path} cannot be changed without losing something", hint="write the setting by hand")
    private_dir(path.parent)
    write_private(path, text.encode())
    return path


def check(name: str, value: object | None) -> None:
    """Raises `InvalidSettings` for a name that is no setting, or a value that it cannot have."""
    if name not in RULES:
        raise InvalidSettings(f"there is no setting {name}")
    if value is not None:
        try:
            RULES[name].read(value)
        except ValueError:
            raise InvalidSettings(f"{name} must be {RULES[name].expects}, not {value!r}") from None


def _set(document: Any, name: str, value: object | None) -> None:
    section, key = name.split(".", 1)
    if value is None:
        if section in document:
            document[section].pop(key, None)
        return
    if section not in document:
        document[section] = {}
    document[section][key] = value


def _without_empty(table: Mapping[str, Any]) -> dict[str, Any]:
    return {section: value for section, value in table.items() if value != {}}
