"""The application: themes, keys and the screen. The model's side is handed in and only known by its protocol."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.screen import Screen

from dgtui.config import Settings
from dgtui.session.store import Store
from dgtui.text import sanitize
from dgtui.tui import keymap
from dgtui.tui.backend import Backend
from dgtui.tui.commands import SLASHES
from dgtui.tui.screens.chat import ChatScreen, Opening
from dgtui.tui.theme import VARIABLES, Look, Theme
from dgtui.tui.theme_file import load_themes, stamp

FALLBACK_THEME = "midnight"
LOOK_AGAIN = 1.0
"seconds between looks at the theme files"


class DgtuiApp(App[None]):
    """`dgtui chat`."""

    TITLE = "dgtui"
    CSS = """
    ToastRack { dock: top; align-vertical: top; margin: 1 0 0 0; }
    """
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("app")

    def __init__(
        self,
        backend: Backend,
        store: Store,
        settings: Settings,
        opening: Opening,
        *,
        theme_folders: Sequence[Path],
        problems: Iterable[str] = (),
    ) -> None:
        self._folders = tuple(theme_folders)
        self._themes, broken = load_themes(self._folders)
        self._wanted = settings.screen.theme
        wanted = self._themes.get(self._wanted) or self._themes[FALLBACK_THEME]
        super().__init__(ansi_color=wanted.ansi)
        self.backend, self.store, self.settings, self.opening = backend, store, settings, opening
        overrides, bad_keys = keymap.check(settings.keys.bindings)
        self.set_keymap(overrides)
        self._problems = [*problems, *map(str, broken), *bad_keys]
        if self._wanted not in self._themes:
            self._problems.append(f"there is no theme {self._wanted}: {FALLBACK_THEME} is used")
        for theme in self._themes.values():
            self.register_theme(theme.textual())
        self.theme = wanted.name
        self._stamp = stamp(self._folders)

    def get_default_screen(self) -> Screen[Any]:
        return ChatScreen(self.backend, self.store, self.settings, self.look, self.opening)

    @property
    def look(self) -> Look:
        """How the present theme draws tokens."""
        return self._dgtui_theme().look(color=not os.environ.get("NO_COLOR"))

    def _dgtui_theme(self) -> Theme:
        return self._themes.get(self.theme) or self._themes[FALLBACK_THEME]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLES)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda _: self._restyle())
        self.set_interval(LOOK_AGAIN, self._look_again)
        for problem in self._problems:
            self.notify(sanitize(problem, newlines=False), severity="warning", markup=False, timeout=10)

    def _restyle(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                screen.set_look(self.look)

    def _look_again(self) -> None:
        """Takes changed theme files; a broken one is reported and the look stays."""
        now = stamp(self._folders)
        if now == self._stamp:
            return
        self._stamp = now
        themes, broken = load_themes(self._folders)
        for problem in broken:
            self.notify(sanitize(str(problem), newlines=False), severity="warning", markup=False)
        for theme in themes.values():
            self.register_theme(theme.textual())
        self._themes = themes | ({self.theme: self._dgtui_theme()} if self.theme not in themes else {})
        self.refresh_css(animate=False)
        self._restyle()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: Textual's own, and the slash commands that need no argument."""
        yield from super().get_system_commands(screen)
        chat = next((s for s in self.screen_stack if isinstance(s, ChatScreen)), None)
        if chat is None:
            return
        for slash in SLASHES:
            if not slash.argument_hint:
                command = f"/{slash.name}"
                yield SystemCommand(command, slash.help, lambda command=command: chat.send(command))

    def action_help(self) -> None:
        """All keys and commands."""
        from dgtui.tui.screens.help import Help

        if not isinstance(self.screen, Help):
            self.push_screen(Help())
