"""The application around every screen: themes, the user's keys, notices and help."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.command import Provider
from textual.screen import Screen

from dgtui import config_file
from dgtui.config import Settings
from dgtui.errors import DgtuiError
from dgtui.mistakes import Problem
from dgtui.text import sanitize
from dgtui.tui import clipboard, keymap
from dgtui.tui.messages import explain
from dgtui.tui.textual_patches import bound_by, make_room_for_notice, patch_timers
from dgtui.tui.theme import PLAIN, VARIABLES, Look, Theme
from dgtui.tui.theme_file import load_themes, stamp

FALLBACK_THEME = "midnight"
CHECK_EVERY = 1.0
"seconds between two checks of the theme files"
KEY_WAIT = 1.0
"most seconds that a key waits for earlier keys"
ROWS_PER_NOTICE = 8
"rows that a notice and the space below it take"


def _key_commands() -> type[Provider]:
    from dgtui.tui.palette import KeyCommands

    return KeyCommands


class BaseApp(App[None]):
    """An app of the program. A subclass gives the first screen."""

    TITLE = "dgtui"
    CSS = """
    ToastRack { dock: top; align: right top; margin: 0; }
    Toast { width: auto; max-width: 100%; padding: 0 1; margin: 0; }
    """
    ENABLE_COMMAND_PALETTE = True
    COMMANDS = App.COMMANDS | {_key_commands}
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("app")

    def __init__(self, settings: Settings, *, theme_folders: Sequence[Path], problems: Iterable[str] = ()) -> None:
        self._folders = tuple(theme_folders)
        patch_timers()
        # Textual's own NO_COLOR filter makes greys and drops dim
        self._color = not os.environ.get("NO_COLOR")
        super().__init__(ansi_color=None if self._color else True)
        self._themes, broken = self._load_themes()
        wanted = self._theme_named(settings.screen.theme)
        self.settings = settings
        self.keys, bad_keys = keymap.check(settings.keys.bindings)
        "the user's keys by binding id"
        self.set_keymap(self.keys)
        self._problems = [*problems, *map(str, broken), *bad_keys]
        self._missing = settings.screen.theme if wanted.name != settings.screen.theme else None
        "the theme that is used as soon as it exists"
        if self._missing:
            self._problems.append(f"there is no theme {settings.screen.theme}: using {wanted.name}")
        for theme in {**self._themes, wanted.name: wanted}.values():
            self.register_theme(theme.textual())
        self.theme = self._kept_theme = wanted.name
        for name in set(self.available_themes) - {*self._themes, wanted.name}:
            self.unregister_theme(name)  # Textual's own themes have no colours for tokens
        self._stamp = stamp(self._folders)

    @property
    def look(self) -> Look:
        """How the current theme draws tokens."""
        return self._theme_named(self.theme).look(color=self._color)

    @property
    def token_theme(self) -> Theme:
        """The current theme."""
        return self._theme_named(self.theme)

    @property
    def theme_names(self) -> list[str]:
        """The themes that can be chosen."""
        return list(self._themes)

    def _load_themes(self) -> tuple[dict[str, Theme], list[Problem]]:
        """All themes, in colours that this terminal can show."""
        themes, broken = load_themes(self._folders)
        return {name: theme.for_terminal(self.console.color_system) for name, theme in themes.items()}, broken

    def _theme_named(self, name: str) -> Theme:
        return self._themes.get(name) or self._themes.get(FALLBACK_THEME) or PLAIN

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLES)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda _: self._theme_chosen())
        self.set_interval(CHECK_EVERY, self._reload_themes)
        self._show_problems(self._problems)

    def _show_problems(self, problems: Sequence[str]) -> None:
        """Shows as many problems as there is room for; `dgtui doctor` lists all."""
        room = self._notices_that_fit
        shown = problems if len(problems) <= room else problems[: max(1, room - 1)]
        left = len(problems) - len(shown)
        for problem in [*shown, *([f"and {left} more: run dgtui doctor to see them"] if left else [])]:
            self.notify(problem, severity="warning", timeout=10)

    async def on_event(self, event: events.Event) -> None:
        """Delays a key until the focused widget and the screen have handled earlier keys.

        Otherwise a key of the whole screen would overtake them: a saved or sent text would lack its last characters, or
        the key would reach a widget that earlier keys are about to leave.
        """
        if isinstance(event, events.Key) and not event.is_forwarded and self.focused is not None:
            # The widget handles the key, then its own messages, then the screen those that reached it
            for node in (self.focused, self.focused, self.screen):
                taken = asyncio.Event()
                if node.call_later(taken.set):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(taken.wait(), KEY_WAIT)
        await super().on_event(event)

    @property
    def _notices_that_fit(self) -> int:
        return max(1, self.size.height // ROWS_PER_NOTICE)

    def notify(self, message: str, *, markup: bool = False, **options: Any) -> None:
        """Shows a notice, sanitised and without markup. It replaces notices with the same message, else the oldest."""
        message = sanitize(message, newlines=False)
        make_room_for_notice(self, message, self._notices_that_fit)
        super().notify(message, markup=False, **options)

    def copy_to_clipboard(self, text: str) -> None:
        """Copies a text and shows where it was copied to."""
        if (where := clipboard.copy(text)) is None:
            where = clipboard.TERMINAL
            super().copy_to_clipboard(text)
        else:
            self._clipboard = text
        self.notify(f"{len(text)} characters copied to {where}")

    def exit(self, result: None = None, return_code: int = 0, message: Any = None) -> None:
        """Ends the app. Every screen first stores its unfinished work."""
        if not self._exit:
            for screen in self.screen_stack:
                if keep := getattr(screen, "keep", None):
                    keep()
        super().exit(result, return_code, message)

    def _theme_chosen(self) -> None:
        """Draws in the theme that was chosen, and writes it into the settings file for the next start."""
        self._restyle()
        if self.theme in (self._kept_theme, FALLBACK_THEME if self._missing else None):
            return
        self._kept_theme = self.theme
        try:
            path = config_file.change({"screen.theme": self.theme})
        except DgtuiError as error:
            self.notify(f"the theme is not kept: {explain(error)}", severity="warning")
        else:
            self.notify(f"theme {self.theme}, kept in {path}")

    def _restyle(self) -> None:
        for screen in self.screen_stack:
            if set_look := getattr(screen, "set_look", None):
                set_look(self.look)

    def _reload_themes(self) -> None:
        """Loads changed theme files. A broken one is reported, and the current look is kept."""
        now = stamp(self._folders)
        if now == self._stamp:
            return
        self._stamp = now
        themes, broken = self._load_themes()
        self._show_problems([str(problem) for problem in broken])
        for theme in themes.values():
            self.register_theme(theme.textual())
        self._themes = themes | ({self.theme: self._theme_named(self.theme)} if self.theme not in themes else {})
        if self._missing and self._missing in themes and self.theme in (FALLBACK_THEME, PLAIN.name):
            self._kept_theme, self._missing = self._missing, None
            self.theme = self._kept_theme
        self.refresh_css(animate=False)
        self._restyle()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Textual's own commands, without those that break the screens; the help replaces its list of keys."""
        yield SystemCommand("Help", "List keys and commands", self.action_help)
        for command in super().get_system_commands(screen):
            if command.title not in ("Keys", "Maximize", "Minimize", "Screenshot"):
                yield command
        yield SystemCommand(
            "Screenshot",
            "Save an SVG picture of the screen in the current folder",
            lambda: self.set_timer(
                0.1, lambda: self.deliver_screenshot(path=str(Path.cwd()))
            ),  # after the palette has closed
        )

    def action_help(self) -> None:
        """Lists all keys and commands."""
        from dgtui.tui.screens.help import Help

        if not isinstance(self.screen, Help):
            contexts = getattr(self.screen, "CONTEXTS", None)
            around = self.focused.ancestors_with_self if self.focused else ()
            parts = bound_by(node for node in around if node not in (self, self.screen))
            self.push_screen(Help(self.keys, contexts, {keymap.context_of(id) for id in parts} - {"canvas"}))
