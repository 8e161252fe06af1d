"""The commands that keys run, and the longest lists of them: moves and steering on the canvas, and the editor."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is bound to keys."""

    id: str
    """"context.name", the name in `[keys]`."""
    keys: tuple[str, ...]
    """Names of keys in Textual."""
    action: str
    """A Textual action; without a namespace it belongs to the widget that binds it."""
    label: str
    """One or two words, for the footer."""
    help: str
    """One line, without a full stop."""
    footer: bool = False
    """Whether the footer shows it while its part of the screen has the focus."""


def moves() -> Iterator[Command]:
    """Moves of the cursor on the canvas, and the same with a selection."""
    for name, key, where in (
        ("left", "left", "to the previous token"),
        ("right", "right", "to the next token"),
        ("up", "up", "to the line above"),
        ("down", "down", "to the line below"),
        ("home", "home", "to the start of the line"),
        ("end", "end", "to the end of the line"),
        ("page_up", "pageup", "one page up"),
        ("page_down", "pagedown", "one page down"),
        ("word_left", "ctrl+left", "to the previous word"),
        ("word_right", "ctrl+right", "to the next word"),
    ):
        # Many terminals do not send Shift+Ctrl+arrows
        select = {"word_left": "less_than_sign", "word_right": "greater_than_sign"}.get(name, f"shift+{key}")
        label = name.replace("_", " ")
        yield Command(f"canvas.{name}", (key,), f"move('{name}')", label, f"move {where}")
        yield Command(f"canvas.select_{name}", (select,), f"move('{name}', True)", f"select {label}", f"select {where}")
    yield Command(
        "canvas.anchor", ("v",), "anchor", "select", "start a selection that every move extends; again to clear it"
    )


def steering() -> Iterator[Command]:
    """The commands that steer a run."""

    def command(name: str, key: str, action: str, label: str, help: str, footer: bool = False) -> Command:
        return Command(f"canvas.{name}", (key,), action, label, help, footer)

    yield command("pause", "space", "pause", "pause", "pause or resume denoising", True)
    yield command("step", "full_stop", "step", "step", "run one denoising step while paused")
    yield command("rediffuse", "r", "rediffuse", "re-diffuse", "denoise the selection again; the rest is pinned", True)
    yield command("other", "e", "something_else", "something else", "re-diffuse the selection without the words there")
    yield command(
        "stronger", "plus", "strength(0.1)", "stronger", "use more noise when re-diffusing; 100% keeps none of the text"
    )
    yield command(
        "weaker", "minus", "strength(-0.1)", "weaker", "use less noise when re-diffusing; keeps some of the text"
    )
    yield command("pin", "p", "pin", "pin", "pin or unpin the selection; pinned tokens never change", True)
    yield command(
        "alternatives", "a", "alternatives", "alternatives", "show alternatives for the token under the cursor", True
    )
    yield command("stop", "escape", "stop", "stop", "stop and keep the draft; again to discard it", True)
    yield command("fork", "f", "fork", "fork", "continue from the shown step with a new seed", True)
    yield command("branches", "b", "branches", "branches", "list the versions of the reply and switch between them")
    yield command("scrub_back", "left_square_bracket", "scrub(-1)", "back", "show the previous step", True)
    yield command("scrub_forward", "right_square_bracket", "scrub(1)", "forward", "show the next step", True)
    yield command(
        "pace", "comma", "pace", "pace", "set the minimum time that each step is shown; the model keeps running"
    )
    yield command("xray", "X", "xray", "x-ray", "show all steps: entropies, or when each token was decided")
    yield command("scrub_first", "left_curly_bracket", "scrub_to('first')", "first step", "show the first step")
    yield command("scrub_last", "right_curly_bracket", "scrub_to('last')", "last step", "show the newest step")
    yield command("preview", "o", "screen.preview", "preview", "show the reply rendered, with SVG drawn", True)
    yield command("polish", "x", "polish", "polish", "renoise the tokens that the model doubts and denoise them again")
    yield command("doubts", "d", "doubts", "doubts", "show which tokens of the finished text the model doubts")
    yield command("gap", "i", "gap", "gap", "insert text at the cursor; the model finds the length")
    yield command("gap_length", "I", "gap(True)", "gap of", "insert text of a given number of tokens")
    yield command("type", "t", "type_here", "type", "type text in place at the cursor; it is pinned")
    yield command("next_proposal", "n", "proposal(1)", "next", "show the next proposal for the span")
    yield command("previous_proposal", "N", "proposal(-1)", "previous", "show the previous proposal")
    yield command("copy", "y", "copy", "copy", "copy the selection, or the whole reply")
    yield command("record", "w", "record", "record", "write the run to a recording")
    yield command("continue", "c", "screen.continue_reply", "continue", "continue a cut reply", True)
    yield command("share", "s", "share", "share", "write the run as a moving picture: an animated SVG and a GIF")
    yield command("undo", "u", "undo", "undo", "undo the last change of the draft")
    yield command("redo", "U", "redo", "redo", "redo the last undone change")
    yield command("accept", "enter", "accept", "accept", "accept the draft as the reply", True)


def editing() -> Iterator[Command]:
    """The commands of the editor."""
    for name, key, select, where in (
        ("left", "left", "shift+left", "to the previous character"),
        ("right", "right", "shift+right", "to the next character"),
        ("up", "up", "shift+up", "to the line above"),
        ("down", "down", "shift+down", "to the line below"),
        ("home", "home", "shift+home", "to the start of the line"),
        ("end", "end", "shift+end", "to the end of the line"),
        ("page_up", "pageup", "shift+pageup", "one page up"),
        ("page_down", "pagedown", "shift+pagedown", "one page down"),
        # Many terminals do not send Shift+Ctrl+arrows; if they do, the editor takes them too
        ("word_left", "ctrl+left", "alt+j", "to the previous word"),
        ("word_right", "ctrl+right", "alt+l", "to the next word"),
        ("top", "ctrl+home", "alt+i", "to the start of the text"),
        ("bottom", "ctrl+end", "alt+k", "to the end of the text"),
    ):
        label = name.replace("_", " ")
        yield Command(f"editor.{name}", (key,), f"move('{name}')", label, f"move {where}")
        yield Command(f"editor.select_{name}", (select,), f"move('{name}', True)", f"select {label}", f"select {where}")
    for name, keys, action, label, help in (
        ("select_all", ("ctrl+a",), "select_all", "select all", "select the whole text"),
        ("newline", ("enter",), "newline", "new line", "break the line and keep its indent"),
        ("indent", ("tab",), "indent", "indent", "insert an indent, or indent the selected lines"),
        ("unindent", ("alt+t",), "unindent", "unindent", "unindent the lines, like shift+tab"),
        ("delete_left", ("backspace",), "delete('left')", "delete", "delete the previous character"),
        ("delete_right", ("delete",), "delete('right')", "delete right", "delete the character at the cursor"),
        ("delete_word_left", ("ctrl+w",), "delete('word_left')", "delete word",
         "delete to the start of the word"),
        ("delete_word_right", ("ctrl+delete",), "delete('word_right')", "delete next word", "delete to the next word"),
        ("copy", ("alt+c",), "copy", "copy", "copy the selection, like ctrl+c"),
        ("cut", ("ctrl+x",), "cut", "cut", "cut the selection"),
        ("paste", ("ctrl+v",), "paste", "paste", "paste the text last copied in dgtui"),
        ("undo", ("ctrl+z",), "undo", "undo", "undo the last change"),
        ("redo", ("ctrl+y", "ctrl+shift+z"), "redo", "redo", "redo the last undone change"),
    ):  # fmt: skip
        yield Command(f"editor.{name}", keys, action, label, help)
