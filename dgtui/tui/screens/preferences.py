"""All settings with their values; a change is written into `config.toml`, which keeps its comments."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dgtui import config_file
from dgtui.config import RULES, Settings, load
from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import DgtuiError, InvalidSettings
from dgtui.text import sanitize
from dgtui.tui.messages import explain
from dgtui.tui.widgets.question import Question

_FIELD: Final = {f"sampler.{spec.key}": spec.name for spec in SAMPLER}


class Preferences(ModalScreen[None]):
    """Enter changes a setting, Delete restores its default."""

    DEFAULT_CSS = """
    Preferences { align: center middle; }
    Preferences Vertical { width: 90%; max-width: 100; height: auto; max-height: 80%; border: round $accent;
        background: $surface; }
    Preferences OptionList { height: auto; max-height: 24; border: none; }
    Preferences Question { height: 1; border: none; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("delete", "restore", "default"),
    ]
    choices = getters.query_one(OptionList)
    question = getters.query_one(Question)

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "settings · enter changes · delete restores the default · esc closes"
            yield OptionList()
            yield Question(lambda had_focus: self.choices.focus() if had_focus else None)

    def on_mount(self) -> None:
        self._draw()
        self.choices.focus()

    def _draw(self) -> None:
        marked = self.choices.highlighted or 0
        settings, _ = load(env={})
        self.choices.clear_options()
        width = max(map(len, RULES))
        for name, value in written(settings):
            line = sanitize(f"{name:<{width}}  {value or '(default)'}", newlines=False, tabs="replace")
            self.choices.add_option(Option(Text(line, no_wrap=True, overflow="ellipsis"), id=name))
        self.choices.highlighted = marked

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        name = str(message.option.id)
        value = dict(written(load(env={})[0]))[name]
        self.question.ask(f"{name}: {RULES[name].expects}", lambda text: self._change(name, text), value)

    def action_restore(self) -> None:
        """Removes a setting from the file."""
        if (at := self.choices.highlighted) is not None:
            self._change(str(self.choices.get_option_at_index(at).id), "")

    def _change(self, name: str, text: str) -> bool:
        try:
            path = config_file.change({name: _value(name, text) if text else None})
        except DgtuiError as error:
            self.notify(explain(error), severity="warning")
            return False
        if name == "screen.theme" and text in self.app.available_themes:
            self.app.theme = text
        else:
            self.notify(f"written to {path}; it takes effect at the next start")
        self._draw()
        return True


def written(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every setting and its value as a person writes it; empty for a default that depends on the model."""
    for name in RULES:
        section, key = name.split(".", 1)
        value = (
            settings.sampler.chosen.get(_FIELD[name]) if name in _FIELD else getattr(getattr(settings, section), key)
        )
        yield name, "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _value(name: str, text: str) -> Any:
    """The TOML value that a person means."""
    try:
        return RULES[name].from_text(text)
    except ValueError:
        raise InvalidSettings(f"{name} must be {RULES[name].expects}, not {text!r}") from None
