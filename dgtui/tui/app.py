"""The application: themes, keys and the screen. The model's side is handed in and only known by its protocol.

`BaseApp` is what every one of our screens needs around it; `DgtuiApp` is the chat. Which screen is the first one is up
to the class.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from textual import events
from textual.app import App, SystemCommand
from textual.screen import Screen

from dgtui.backend import Backend
from dgtui.config import Settings
from dgtui.mistakes import Problem
from dgtui.text import sanitize
from dgtui.tui import keymap
from dgtui.tui.commands import SLASHES
from dgtui.tui.theme import PLAIN, VARIABLES, Look, Theme
from dgtui.tui.theme_file import load_themes, stamp

if TYPE_CHECKING:
    from dgtui.session.store import Store
    from dgtui.tui.screens.chat import Opening

FALLBACK_THEME = "midnight"
LOOK_AGAIN = 1.0
"seconds between looks at the theme files"
_PATIENCE = 1.0
"seconds that a key waits for those before it, at most"
ROWS_OF_A_NOTICE = 8
"of the screen: what a notice and the space below it may take"


@runtime_checkable
class Styled(Protocol):
    """A screen that draws tokens."""

    def set_look(self, look: Look) -> None: ...


class BaseApp(App[None]):
    """Themes, the person's keys, the help."""

    TITLE = "dgtui"
    CSS = """
    ToastRack { dock: top; align-vertical: top; margin: 1 0 0 0; }
    """
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("app")

    def __init__(self, settings: Settings, *, theme_folders: Sequence[Path], problems: Iterable[str] = ()) -> None:
        self._folders = tuple(theme_folders)
        # Without colours Textual is told so: its own NO_COLOR makes greys, and drops dim
        self._color = not os.environ.get("NO_COLOR")
        super().__init__(ansi_color=None if self._color else True)
        self._themes, broken = self._load_themes()
        wanted = self._theme_named(settings.screen.theme)
        self.settings = settings
        overrides, bad_keys = keymap.check(settings.keys.bindings)
        self.set_keymap(overrides)
        self._problems = [*problems, *map(str, broken), *bad_keys]
        self._missing = settings.screen.theme if wanted.name != settings.screen.theme else None
        "the theme that is taken as soon as there is one of that name"
        if self._missing:
            self._problems.append(f"there is no theme {settings.screen.theme}: {wanted.name} is used")
        for theme in {**self._themes, wanted.name: wanted}.values():
            self.register_theme(theme.textual())
        self.theme = wanted.name
        for name in set(self.available_themes) - {*self._themes, wanted.name}:
            self.unregister_theme(name)  # Textual's own paint no tokens
        self._stamp = stamp(self._folders)

    @property
    def look(self) -> Look:
        """How the present theme draws tokens."""
        return self._theme_named(self.theme).look(color=self._color)

    @property
    def theme_names(self) -> list[str]:
        """The themes that can be chosen."""
        return list(self._themes)

    def _load_themes(self) -> tuple[dict[str, Theme], list[Problem]]:
        """All themes, as the colours of this terminal can show them."""
        themes, broken = load_themes(self._folders)
        return {name: theme.for_terminal(self.console.color_system) for name, theme in themes.items()}, broken

    def _theme_named(self, name: str) -> Theme:
        return self._themes.get(name) or self._themes.get(FALLBACK_THEME) or PLAIN

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLES)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda _: self._restyle())
        self.set_interval(LOOK_AGAIN, self._look_again)
        self._say(self._problems)

    def _say(self, problems: Sequence[str]) -> None:
        """As many as there is room for; the rest is for `dgtui doctor`."""
        room = self._notices_that_fit
        shown = problems if len(problems) <= room else problems[: max(1, room - 1)]
        left = len(problems) - len(shown)
        for problem in [*shown, *([f"and {left} more: `dgtui doctor` lists them"] if left else [])]:
            self.notify(sanitize(problem, newlines=False), severity="warning", markup=False, timeout=10)

    async def on_event(self, event: events.Event) -> None:
        """A key waits until the part with the focus has taken what was typed before it.

        Else a key of the whole screen would overtake it: what is saved, or asked for, would lack the last characters.
        """
        if isinstance(event, events.Key) and not event.is_forwarded and self.focused is not None:
            taken = asyncio.Event()
            if self.focused.call_later(taken.set):
                with suppress(TimeoutError):
                    await asyncio.wait_for(taken.wait(), _PATIENCE)
        await super().on_event(event)

    @property
    def _notices_that_fit(self) -> int:
        return max(1, self.size.height // ROWS_OF_A_NOTICE)

    def notify(self, message: str, *, timeout: float | None = None, **kwargs: Any) -> None:
        """A notice; those that say the same, and the oldest where there is no room for all, go at once."""
        passing = [notice for notice in self._notifications if notice.timeout == self.NOTIFICATION_TIMEOUT]
        others = [notice for notice in passing if notice.message != message]
        kept = others[max(0, len(others) + 1 - self._notices_that_fit) :]
        for notice in passing:
            if notice not in kept:
                self._unnotify(notice)
        super().notify(message, timeout=timeout, **kwargs)

    def _restyle(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Styled):
                screen.set_look(self.look)

    def _look_again(self) -> None:
        """Takes changed theme files; a broken one is reported and the look stays."""
        now = stamp(self._folders)
        if now == self._stamp:
            return
        self._stamp = now
        themes, broken = self._load_themes()
        self._say([str(problem) for problem in broken])
        for theme in themes.values():
            self.register_theme(theme.textual())
        self._themes = themes | ({self.theme: self._theme_named(self.theme)} if self.theme not in themes else {})
        if self._missing and self._missing in themes and self.theme in (FALLBACK_THEME, PLAIN.name):
            self.theme, self._missing = self._missing, None
        self.refresh_css(animate=False)
        self._restyle()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Textual's own, less those that tear our screens; its list of keys is our help."""
        yield SystemCommand("Help", "List keys and commands", self.action_help)
        for command in super().get_system_commands(screen):
            if command.title not in ("Keys", "Maximize", "Minimize", "Screenshot"):
                yield command
        yield SystemCommand(
            "Screenshot",
            "Save an SVG picture of the screen in the current folder",
            lambda: self.set_timer(0.1, lambda: self.deliver_screenshot(path=str(Path.cwd()))),  # the palette has gone
        )

    def action_help(self) -> None:
        """All keys and commands."""
        from dgtui.tui.screens.help import Help

        if not isinstance(self.screen, Help):
            self.push_screen(Help(contexts=getattr(self.screen, "CONTEXTS", None)))


class DgtuiApp(BaseApp):
    """`dgtui chat`."""

    def __init__(
        self,
        backend: Backend,
        store: "Store",
        settings: Settings,
        opening: "Opening",
        *,
        theme_folders: Sequence[Path],
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(settings, theme_folders=theme_folders, problems=problems)
        self.backend, self.store, self.opening = backend, store, opening

    def get_default_screen(self) -> Screen[Any]:
        from dgtui.tui.screens.chat import ChatScreen

        return ChatScreen(self.backend, self.store, self.settings, self.look, self.opening, lambda: self.theme_names)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: Textual's own, and the slash commands that need no argument."""
        from dgtui.tui.screens.chat import ChatScreen

        yield from super().get_system_commands(screen)
        chat = next((s for s in self.screen_stack if isinstance(s, ChatScreen)), None)
        if chat is None:
            return
        for slash in SLASHES:
            if not slash.argument_hint:
                command = f"/{slash.name}"
                yield SystemCommand(command, slash.help, lambda command=command: chat.command(command))
