"""The key commands in the palette: by name, with their keys, and dimmed if they have no effect now."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode

from dgtui.tui import keymap
from dgtui.tui.key_commands import Command
from dgtui.tui.key_names import shown
from dgtui.tui.textual_patches import bound_by


@dataclass(frozen=True, slots=True)
class _Choice:
    name: str
    keys: str
    command: Command
    node: DOMNode
    "the node that has the action"

    @property
    def is_possible(self) -> bool:
        return keymap.possible(self.node, self.command.action)


class KeyCommands(Provider):
    """The commands of the keymap that belong to the screen below the palette."""

    def _choices(self) -> Iterator[_Choice]:
        nodes = bound_by([self.app, self.screen, *self.screen.walk_children()])
        for context in getattr(self.screen, "CONTEXTS", ("app",)):
            for command in keymap.COMMANDS[context]:
                if (node := nodes.get(command.id)) is not None:
                    keys = "  ".join(map(shown, keymap.keys_of(command, getattr(self.app, "keys", {}))))
                    yield _Choice(f"{command.label}: {command.help}", keys, command, node)

    async def discover(self) -> Hits:
        """The commands of the footer."""
        for choice in self._choices():
            if choice.command.footer:
                run = partial(self.app.run_action, choice.command.action, choice.node)
                yield DiscoveryHit(_dimmed(Content(choice.name), choice), run, choice.name, choice.keys)

    async def search(self, query: str) -> Hits:
        """The commands whose name or help matches the query; possible ones come first."""
        matcher = self.matcher(query)
        for choice in self._choices():
            if (score := matcher.match(choice.name)) > 0:
                shown_as = _dimmed(matcher.highlight(choice.name), choice)
                run = partial(self.app.run_action, choice.command.action, choice.node)
                yield Hit(score * (1.0 if choice.is_possible else 0.9), shown_as, run, choice.name, choice.keys)


def _dimmed(name: Content, choice: _Choice) -> Content:
    return name if choice.is_possible else name.stylize("dim")
