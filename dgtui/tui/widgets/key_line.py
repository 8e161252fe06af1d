"""The last line of a screen: the keys of the currently possible actions, as many as fit without cutting a word.
Keys of actions that this model does not support are dimmed, and show the reason when pressed."""

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from dgtui.tui.keymap import possible
from dgtui.tui.textual_patches import forget_watchers

_SPACE = 3
"""Cells around a key and its label."""


class KeyLine(Footer):
    """Textual's footer without keys that have no effect now. Help and palette are always shown."""

    _composed_for = 0

    def compose(self) -> ComposeResult:
        forget_watchers(self, "compact")  # the keys that were shown before
        active = self.screen.active_bindings
        self._composed_for = width = self.size.width or self.app.size.width  # 0 before the first layout
        last = [b for b in active.values() if b.binding.action in ("app.help", "app.command_palette")]
        room = width - sum(self._cells(self.app.get_key_display(b.binding), b.binding.description) for b in last)
        skipping = False
        grouped: list[Binding.Group] = []
        for widget in super().compose():
            if isinstance(widget, FooterKey):
                if widget.action in ("app.help", "app.command_palette"):
                    yield widget
                    continue
                found = active.get(widget.key.split(",")[0])
                refused = found is not None and self._is_refused(found.node, widget.action)
                widget.set_class(refused, "-disabled")
                skipping = found is not None and not refused and not possible(found.node, widget.action)
                if found is not None and hasattr(found.node, "label_of"):
                    widget.description = found.node.label_of(widget.action, widget.description)
                group = found.binding.group if found is not None and not widget.description else None
                if group is None:
                    cells = self._cells(widget.key_display, widget.description)
                else:  # its keys stand together before one label
                    cells = len(widget.key_display) + (0 if group in grouped else self._cells("", group.description))
                    grouped.append(group)
                room -= 0 if skipping else cells
            if not skipping and room >= 0:
                yield widget

    @staticmethod
    def _is_refused(node: object, action: str) -> bool:
        """Whether this model can never do it. A node that knows this has a method `refusal`."""
        why = getattr(node, "refusal", None)
        return why is not None and bool(why(action.partition("(")[0]))

    @staticmethod
    def _cells(key: str, label: str) -> int:
        return len(key) + len(label) + _SPACE

    def on_resize(self, event: events.Resize) -> None:
        """Fits the keys to the new width."""
        if event.size.width != self._composed_for:
            self.call_after_refresh(self.recompose)
