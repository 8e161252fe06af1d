"""Folders on disk.

The user's folders follow the XDG base directory specification, with `XDG_CONFIG_HOME` and its siblings. Relative values
in these are ignored. A folder is created when it is first needed and is readable by its owner alone, because it may
hold conversations and recovery copies. Data that ships with the program lies beside the package (in a checkout) or
inside it (in a wheel).
"""

import os
import platform
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from dgtui.errors import RunFailed

APP: Final = "dgtui"

_PACKAGE = Path(__file__).resolve().parent


def _user_path(kind: str) -> Path:
    """The user's folder of a kind. Imported here, because `dgtui bench` must also run without this package."""
    import platformdirs

    path: Path = getattr(platformdirs, f"user_{kind}_path")(APP, appauthor=False)
    return path


def config_dir() -> Path:
    """Returns the folder of `config.toml` and the user's own themes, created if missing.

    Raises:
        RunFailed: The folder cannot be created.
    """
    return private_dir(_user_path("config"))


def data_dir() -> Path:
    """Returns the folder of conversations, created if missing. Raises `RunFailed` if that fails."""
    return private_dir(_user_path("data"))


def cache_dir() -> Path:
    """Returns the folder of replaceable data (packed weights, compiled kernels), created if missing.

    Raises:
        RunFailed: The folder cannot be created.
    """
    return private_dir(cache_path())


def cache_path() -> Path:
    """Returns the path of the cache folder, which need not exist."""
    return _user_path("cache")


def state_dir() -> Path:
    """Returns the folder of logs and recovery journals, created if missing. Raises `RunFailed` if that fails."""
    return private_dir(_user_path("state"))


def config_file() -> Path:
    """Returns the path of `config.toml`. Neither the file nor its folder need exist."""
    return _user_path("config") / "config.toml"


def private_dir(path: Path) -> Path:
    """Creates `path` and its missing parents with mode 0700, and returns it.

    An existing folder keeps its mode, because it may be shared on purpose.

    Raises:
        RunFailed: A folder cannot be created, or `path` is a file.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        # Parents one by one: `mkdir(parents=True)` would give them the default mode.
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFailed(
            f"the folder {path} cannot be created: {reason}",
            hint="set XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME and XDG_STATE_HOME to writable folders",
        ) from error
    if not path.is_dir():
        raise RunFailed(f"{path} should be a folder but is a file", hint="move the file elsewhere")
    return path


def embedded_dir() -> Path:
    """Returns the folder of the checkpoint that ships with the program."""
    return _PACKAGE / "model" / "embedded"


def shipped_dir(name: str) -> Path:
    """Returns a folder of data that ships with the program, such as `themes`.

    Raises:
        RunFailed: The installation lacks the folder.
    """
    inside = _PACKAGE / name
    if inside.is_dir():
        return inside
    checkout = _PACKAGE.parent
    # Without this check, an installed package would use any folder of that name in site-packages.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise RunFailed(f"the installation has no {name} folder", hint="install dgtui again")


def typed_path(text: str) -> Path:
    """Returns the path that the user typed, pasted or dropped on the terminal.

    Blanks around it are removed. Quotes, backslash escapes and `file:` URLs, which terminals and file managers write,
    are decoded, and `~` is expanded; the `~` of an unknown user is kept. If a file has exactly this name, it is used.
    """
    if text and os.path.lexists(text):
        return Path(text)
    text = text.strip()
    if text[:5].lower() == "file:":
        text = _of_url(text)
    elif not os.path.lexists(text) and (text[:1] in ("'", '"') or "\\" in text):
        with suppress(ValueError):  # a quote without an end belongs to the name
            words = shlex.split(text)
            text = words[0] if len(words) == 1 else text
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _of_url(url: str) -> str:
    """Returns the path of a `file:` URL. A URL of another machine is returned unchanged."""
    from urllib.parse import unquote_to_bytes

    path = url[5:]
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host.lower() not in ("", "localhost", platform.node().lower()):
            return url
        path = slash + rest
    return os.fsdecode(unquote_to_bytes(path))
