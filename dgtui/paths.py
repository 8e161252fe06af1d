"""Where things lie on disk.

The person's folders follow the XDG base directory specification: `XDG_CONFIG_HOME` and its siblings win, a relative
value in them counts as unset. A folder is made when first asked for and is readable by its owner alone, because
conversations and recovery copies go there. What ships with the program is found beside the package (in a checkout)
or inside it (in a wheel).
"""

from pathlib import Path
from typing import Final

import platformdirs

from dgtui.errors import RunFailed

APP: Final = "dgtui"

_PACKAGE = Path(__file__).resolve().parent


def config_dir() -> Path:
    """The folder of `config.toml` and the person's own themes, made if missing.

    Raises:
        RunFailed: If it cannot be made.
    """
    return private_dir(platformdirs.user_config_path(APP, appauthor=False))


def data_dir() -> Path:
    """The folder of conversations, made if missing. Raises `RunFailed` if it cannot be made."""
    return private_dir(platformdirs.user_data_path(APP, appauthor=False))


def cache_dir() -> Path:
    """The folder of what can be made again (packed weights, compiled kernels), made if missing.

    Raises:
        RunFailed: If it cannot be made.
    """
    return private_dir(cache_path())


def cache_path() -> Path:
    """The path of that folder, which need not exist: nothing is made."""
    return platformdirs.user_cache_path(APP, appauthor=False)


def state_dir() -> Path:
    """The folder of logs and recovery journals, made if missing. Raises `RunFailed` if it cannot be made."""
    return private_dir(platformdirs.user_state_path(APP, appauthor=False))


def config_file() -> Path:
    """The path of `config.toml`. Neither the file nor its folder need exist: reading settings makes nothing."""
    return platformdirs.user_config_path(APP, appauthor=False) / "config.toml"


def private_dir(path: Path) -> Path:
    """Make `path` and its missing parents with mode 0700, and return it.

    A folder that exists keeps its mode: it may be shared, or managed by the person, on purpose.

    Raises:
        RunFailed: If a folder cannot be made, or a file is in the way.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        # Parents one by one: `mkdir(parents=True)` would give them the default mode.
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFailed(
            f"cannot make the folder {path}: {reason}",
            hint="point XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME and XDG_STATE_HOME at folders you can write",
        ) from error
    if not path.is_dir():
        raise RunFailed(f"{path} is in the way of a folder of that name", hint="move that file elsewhere")
    return path


def embedded_dir() -> Path:
    """The folder of the checkpoint that ships with the program."""
    return _PACKAGE / "model" / "embedded"


def shipped_dir(name: str) -> Path:
    """A folder of data that ships with the program, such as `themes`.

    Raises:
        RunFailed: If the installation lacks it.
    """
    inside = _PACKAGE / name
    if inside.is_dir():
        return inside
    checkout = _PACKAGE.parent
    # Without this check, an installed package would take any neighbour of that name in site-packages.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise RunFailed(f"the installation has no folder {name}", hint="install dgtui again")


def typed_path(text: str) -> Path:
    """A path as a person types it; `~` of a person whom the system does not know stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
