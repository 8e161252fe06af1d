"""Every binding of the program as data: what the screens bind, the help and `dgtui keys` list, and `[keys]` may change.

A command's keys are Textual's names of keys that a plain terminal sends: no action needs Ctrl+Shift or the Kitty
protocol, though a second key may. `check` stands between the person's settings and Textual, which takes an unknown id
or a key that does not exist in silence and leaves the command without a key.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dgtui.mistakes import closest_dotted, did_you_mean, in_brackets
from dgtui.tui.key_names import normal, shown, types

if TYPE_CHECKING:
    from textual.binding import Binding
    from textual.widget import Widget


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a key does."""

    id: str
    """"context.name": what `[keys]` calls it."""
    keys: tuple[str, ...]
    """Textual's names."""
    action: str
    """Textual's action string; without a namespace, of the widget that binds it."""
    label: str
    """One or two words, for the footer."""
    help: str
    """One line, without a full stop."""
    footer: bool = False
    """Shown in the footer while its part of the screen has the focus."""


def _moves() -> Iterator[Command]:
    for name, key, where in (
        ("left", "left", "to the token before"),
        ("right", "right", "to the next token"),
        ("up", "up", "to the line above"),
        ("down", "down", "to the line below"),
        ("home", "home", "to the beginning of the line"),
        ("end", "end", "to the end of the line"),
        ("page_up", "pageup", "one page up"),
        ("page_down", "pagedown", "one page down"),
        ("word_left", "ctrl+left", "to the word before"),
        ("word_right", "ctrl+right", "to the next word"),
    ):
        # Shift+Ctrl+arrows do not reach the program in many terminals
        select = {"word_left": "less_than_sign", "word_right": "greater_than_sign"}.get(name, f"shift+{key}")
        label = name.replace("_", " ")
        yield Command(f"canvas.{name}", (key,), f"move('{name}')", label, f"move {where}")
        yield Command(f"canvas.select_{name}", (select,), f"move('{name}', True)", f"select {label}", f"select {where}")
    yield Command(
        "canvas.anchor", ("v",), "anchor", "select", "set an anchor: every move selects from it; again to drop it"
    )


def _steering() -> Iterator[Command]:
    def command(name: str, key: str, action: str, label: str, help: str, footer: bool = False) -> Command:
        return Command(f"canvas.{name}", (key,), action, label, help, footer)

    yield command("pause", "space", "pause", "pause", "pause the denoising, or let it go on", True)
    yield command("step", "full_stop", "step", "step", "one denoising step, while paused")
    yield command("rediffuse", "r", "rediffuse", "re-diffuse", "write the selection anew, everything else pinned", True)
    yield command("stronger", "plus", "strength(0.1)", "stronger", "re-diffuse from more noise; 100% keeps nothing")
    yield command("weaker", "minus", "strength(-0.1)", "weaker", "re-diffuse from less noise, keeping part of the text")
    yield command("pin", "p", "pin", "pin", "pin the selection, or free it; pinned tokens never change", True)
    yield command("alternatives", "a", "alternatives", "alternatives", "what else fits under the cursor", True)
    yield command("stop", "escape", "stop", "stop", "stop and keep the draft; again to discard it", True)
    yield command("fork", "f", "fork", "fork", "go on from the step that is shown, under a new seed", True)
    yield command("branches", "b", "branches", "branches", "list the versions of the reply, and switch to one")
    yield command("scrub_back", "left_square_bracket", "scrub(-1)", "back", "show the step before", True)
    yield command("scrub_forward", "right_square_bracket", "scrub(1)", "on", "show the next step", True)
    yield command("scrub_first", "left_curly_bracket", "scrub_to('first')", "first step", "show the first step")
    yield command("scrub_last", "right_curly_bracket", "scrub_to('last')", "last step", "show the newest step")
    yield command("polish", "x", "polish", "polish", "renoise the least certain tokens and let them settle again")
    yield command("gap", "i", "gap", "gap", "open a gap at the cursor and fill it; its length is searched for")
    yield command("gap_length", "I", "gap(True)", "gap of", "open a gap of a number of tokens")
    yield command("type", "t", "type_here", "type", "type text at the cursor; it is pinned")
    yield command("next_proposal", "n", "proposal(1)", "next", "the next proposal for the span")
    yield command("previous_proposal", "N", "proposal(-1)", "previous", "the proposal before")
    yield command("copy", "y", "copy", "copy", "copy the selection, or the whole reply")
    yield command("record", "w", "record", "record", "write the run to a recording")
    yield command("undo", "u", "undo", "undo", "undo the last change of the draft")
    yield command("redo", "U", "redo", "redo", "redo what was undone")
    yield command("accept", "enter", "accept", "accept", "take the draft as the reply", True)


def _editing() -> Iterator[Command]:
    for name, key, select, where in (
        ("left", "left", "shift+left", "to the character before"),
        ("right", "right", "shift+right", "to the next character"),
        ("up", "up", "shift+up", "to the line above"),
        ("down", "down", "shift+down", "to the line below"),
        ("home", "home", "shift+home", "to the beginning of the line"),
        ("end", "end", "shift+end", "to the end of the line"),
        ("page_up", "pageup", "shift+pageup", "one page up"),
        ("page_down", "pagedown", "shift+pagedown", "one page down"),
        # Shift+Ctrl+arrows do not reach the program in many terminals; where they do, the editor takes them too
        ("word_left", "ctrl+left", "alt+j", "to the word before"),
        ("word_right", "ctrl+right", "alt+l", "to the next word"),
        ("top", "ctrl+home", "alt+i", "to the beginning of the text"),
        ("bottom", "ctrl+end", "alt+k", "to the end of the text"),
    ):
        label = name.replace("_", " ")
        yield Command(f"editor.{name}", (key,), f"move('{name}')", label, f"move {where}")
        yield Command(f"editor.select_{name}", (select,), f"move('{name}', True)", f"select {label}", f"select {where}")
    for name, keys, action, label, help in (
        ("select_all", ("ctrl+a",), "select_all", "select all", "select the whole text"),
        ("newline", ("enter",), "newline", "new line", "break the line, and keep its indent"),
        ("indent", ("tab",), "indent", "indent", "insert an indent, or move the selected lines to the right"),
        ("unindent", ("alt+t",), "unindent", "unindent", "move the lines to the left, as shift+tab does"),
        ("delete_left", ("backspace",), "delete('left')", "delete", "delete the character before"),
        ("delete_right", ("delete",), "delete('right')", "delete right", "delete the character at the cursor"),
        ("delete_word_left", ("ctrl+w",), "delete('word_left')", "delete word",
         "delete to the beginning of the word"),
        ("delete_word_right", ("ctrl+delete",), "delete('word_right')", "delete next word", "delete to the next word"),
        ("copy", ("alt+c",), "copy", "copy", "copy the selection, as ctrl+c does"),
        ("cut", ("ctrl+x",), "cut", "cut", "cut the selection"),
        ("paste", ("ctrl+v",), "paste", "paste", "paste what was copied here last"),
        ("undo", ("ctrl+z",), "undo", "undo", "undo the last change"),
        ("redo", ("ctrl+y", "ctrl+shift+z"), "redo", "redo", "redo what was undone"),
    ):  # fmt: skip
        yield Command(f"editor.{name}", keys, action, label, help)


COMMANDS: Final[Mapping[str, tuple[Command, ...]]] = MappingProxyType(
    {
        "app": (
            Command("app.help", ("f1", "question_mark"), "app.help", "help", "list keys and commands", True),
            Command("app.palette", ("ctrl+p",), "app.command_palette", "commands", "find a command by its name"),
            Command("app.next_part", ("tab",), "app.focus_next", "next part", "to the next part of the screen"),
            Command("app.previous_part", ("shift+tab",), "app.focus_previous", "part before", "to the part before"),
            Command("app.quit", ("ctrl+q",), "app.quit", "quit", "quit at once; only a changed file asks"),
        ),
        "chat": (
            Command("app.interrupt", ("ctrl+c",), "screen.interrupt", "stop", "copy a selection, else stop, else quit"),
        ),
        "talk": (Command("talk.stop", ("escape",), "screen.stop", "stop", "stop the run and keep its draft"),),
        "canvas": tuple(_moves()),
        "steering": tuple(_steering()),
        "transcript": (
            Command("transcript.raw", ("m",), "screen.raw", "raw", "show replies as written, or as Markdown", True),
            Command("transcript.edit_reply", ("e",), "screen.edit_reply", "edit", "edit the reply and go on", True),
            Command("transcript.regenerate", ("R",), "screen.regenerate", "regenerate", "write the reply anew", True),
            Command("transcript.copy", ("y",), "screen.copy", "copy", "copy the marked turn", True),
            Command("transcript.fold", ("enter",), "fold", "fold", "open or fold the thought"),
            Command("transcript.up", ("up",), "go(-1)", "up", "the turn before"),
            Command("transcript.down", ("down",), "go(1)", "down", "the next turn"),
            Command("transcript.page_up", ("pageup",), "page(-1)", "page up", "a page up"),
            Command("transcript.page_down", ("pagedown",), "page(1)", "page down", "a page down"),
            Command("transcript.home", ("home",), "edge('first')", "first", "the first turn"),
            Command("transcript.end", ("end",), "edge('last')", "last", "the last turn"),
        ),
        "prompt": (
            Command("prompt.send", ("enter",), "send", "send", "send the message", True),
            Command("prompt.newline", ("ctrl+j", "shift+enter"), "newline", "new line", "break the line", True),
            Command("prompt.older", ("up",), "older", "older", "the message before, at the top of the prompt"),
            Command("prompt.newer", ("down",), "newer", "newer", "the message after, at the bottom of the prompt"),
            Command("prompt.complete", ("tab",), "complete", "complete", "complete a slash command"),
            Command("prompt.close", ("escape",), "close", "close", "close the completions"),
        ),
        "alternatives": (
            Command("alternatives.previous", ("up",), "cursor_up", "up", "the more probable token"),
            Command("alternatives.next", ("down",), "cursor_down", "down", "the less probable token"),
            Command("alternatives.pick", ("enter",), "select", "pick", "pin it; the rest settles around it", True),
            Command("alternatives.close", ("escape",), "close", "close", "leave the token as it is", True),
        ),
        "sessions": (
            Command("sessions.open", ("enter",), "open", "open", "go on with the conversation", True),
            Command("sessions.search", ("slash",), "search", "search", "search all conversations", True),
            Command("sessions.rename", ("r",), "rename", "rename", "give the conversation another title", True),
            Command("sessions.delete", ("d", "delete"), "delete", "delete", "delete the conversation", True),
            Command("sessions.close", ("escape",), "close", "close", "go back", True),
        ),
        "replay": (
            Command("replay.play", ("space",), "screen.play", "play", "play the run, or hold it", True),
            Command("replay.scrub_back", ("left_square_bracket",), "screen.scrub(-1)", "back", "the step before", True),
            Command("replay.scrub_forward", ("right_square_bracket",), "screen.scrub(1)", "on", "the next step", True),
            Command("replay.scrub_first", ("left_curly_bracket",), "screen.scrub_to('first')", "first step",
                    "the first step"),
            Command("replay.scrub_last", ("right_curly_bracket",), "screen.scrub_to('last')", "last step",
                    "the last step"),
            Command("replay.faster", ("plus",), "screen.speed(1)", "faster", "play faster", True),
            Command("replay.slower", ("minus",), "screen.speed(-1)", "slower", "play slower", True),
            Command("replay.alternatives", ("a",), "screen.alternatives", "alternatives",
                    "what else would have fitted under the cursor", True),
            Command("replay.copy", ("y",), "screen.copy", "copy", "copy the selection, or the reply as it was", True),
            Command("replay.next_candidate", ("n",), "screen.candidate(1)", "next candidate",
                    "the next of several canvases that were refined together"),
            Command("replay.previous_candidate", ("N",), "screen.candidate(-1)", "candidate before",
                    "the candidate before"),
            Command("replay.leave", ("escape", "q"), "screen.leave", "leave", "leave", True),
        ),
        "editor": tuple(_editing()),
        "edit": (
            Command("edit.rediffuse", ("ctrl+r",), "screen.rediffuse", "re-diffuse",
                    "write the selection and all marked spans anew, both sides held", True),
            Command("edit.instruct", ("ctrl+k",), "screen.instruct", "instruct", "say how to rewrite the selection",
                    True),
            Command("edit.gap", ("ctrl+g",), "screen.gap", "insert", "let the model write something at the cursor",
                    True),
            Command("edit.mark", ("ctrl+d",), "screen.mark", "mark",
                    "mark the selection, to go in one run with others; again to unmark it", True),
            Command("edit.proposals", ("ctrl+n",), "screen.proposals", "proposals",
                    "look again at what was proposed for the text at the cursor"),
            Command("edit.save", ("ctrl+s",), "screen.save", "save", "save the file, all or nothing", True),
            Command("edit.save_as", ("ctrl+o",), "screen.save_as", "save as", "save under another name"),
            Command("edit.find", ("ctrl+f",), "screen.find", "find", "find a text", True),
            Command("edit.cancel", ("escape",), "screen.cancel", "cancel", "drop the marks"),
        ),
        "review": (
            Command("review.accept", ("enter",), "screen.accept", "accept", "put this change into the text", True),
            Command("review.reject", ("backspace",), "screen.reject", "reject", "leave the text as it is here", True),
            Command("review.accept_all", ("A",), "screen.accept(True)", "all", "put all changes into the text",
                    True),
            Command("review.reject_all", ("X",), "screen.reject(True)", "none", "leave the text as it is", True),
            Command("review.previous", ("up",), "screen.change(-1)", "up", "the change before"),
            Command("review.next", ("down",), "screen.change(1)", "down", "the next change"),
            Command("review.next_proposal", ("n",), "screen.proposal(1)", "next", "the next proposal", True),
            Command("review.previous_proposal", ("N",), "screen.proposal(-1)", "before", "the proposal before"),
            Command("review.again", ("g",), "screen.again", "again", "ask for more proposals, under a new seed", True),
            Command("review.page_up", ("pageup",), "screen.page(-1)", "page up", "scroll a page up"),
            Command("review.page_down", ("pagedown",), "screen.page(1)", "page down", "scroll a page down"),
            Command("review.leave", ("escape",), "screen.cancel", "back",
                    "stop the run and look at what is there; else back to the text", True),
        ),
    }
)  # fmt: skip
"""Context → its commands, in the order of the footer. "chat" is the whole screen, of a replay too, "talk" a chat's,
"steering" the canvas's panel."""

_PAIRS: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("canvas.scrub_back", "canvas.scrub_forward", "replay.scrub_back", "replay.scrub_forward"), "scrub")
    | dict.fromkeys(("replay.faster", "replay.slower"), "speed")
)
"""Commands that share a label in the footer."""

_FIRST: Final = frozenset(
    "app.palette app.interrupt app.quit edit.rediffuse edit.instruct edit.gap edit.mark edit.proposals edit.save "
    "edit.save_as edit.find".split()
)
"""Answered before the part that has the focus, a text area for one, can take the key."""

_TOGETHER: Final[Mapping[str, str]] = MappingProxyType(
    {"steering": "canvas", "replay": "canvas", "chat": "app", "talk": "app", "editor": "edit", "review": "edit"}
)
"""Contexts whose keys are always in force together with those of another."""

_APART: Final = (frozenset({"steering", "replay"}), frozenset({"editor", "review"}))
"""Both together with those of a third, never with each other's."""

_BY_ID: Final = {command.id: command for commands in COMMANDS.values() for command in commands}
_CONTEXT_OF: Final = {command.id: context for context, commands in COMMANDS.items() for command in commands}


def bindings(context: str) -> "list[Binding]":
    """The bindings of a context, to be a widget's or a screen's `BINDINGS`."""
    from textual.binding import Binding

    pairs = {label: Binding.Group(label, compact=True) for label in _PAIRS.values()}
    return [
        Binding(
            ",".join(command.keys), command.action, command.label,
            id=command.id, show=command.footer, tooltip=command.help, priority=command.id in _FIRST,
            group=pairs.get(_PAIRS.get(command.id, "")),
        )
        for command in COMMANDS[context]
    ]  # fmt: skip


async def run_own(widget: "Widget", key: str) -> bool:
    """Runs the command that a widget itself has for a key, if there is one and it can be run.

    A key that is bound goes up to the app before its action is run, and what was pressed after it would overtake it.
    So a widget calls this where it gets the key.
    """
    active = widget.screen.active_bindings.get(key)
    return active is not None and active.node is widget and await widget.app.run_action(active.binding.action, widget)


def ids() -> frozenset[str]:
    """The ids that `[keys]` may name."""
    return frozenset(_BY_ID)


def check(overrides: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, str], list[str]]:
    """What of the person's keys can be taken, for `App.set_keymap`, and what is wrong with the rest.

    A key that another command has stays that command's, so that none is ever left without a key; give that command
    another one, and it is free. A command whose keys cannot be taken keeps those it had.
    """
    problems: list[str] = []
    wanted: dict[str, tuple[str, ...]] = {}
    for name, keys in overrides.items():
        if name not in _BY_ID:
            problems.append(
                f"{name}: there is no such binding{in_brackets(did_you_mean(closest_dotted(name, _BY_ID)))}"
            )
            continue
        taken: list[str] = []
        for key in keys:
            names = normal(key)
            if not names:
                problems.append(f"{name}: no terminal sends {key!r}; not used")
            elif any(types(known) for known in names) and (name in _FIRST or _typed_in(name, names)):
                problems.append(f"{name}: {shown(names[0])} is needed to write; not used")
            else:
                taken += names
        if taken:
            wanted[name] = tuple(dict.fromkeys(taken))
    # A refusal gives a command its own keys back, and one of them may be what another command wants
    while clash := _clash(wanted):
        name, key, owner = clash
        del wanted[name]
        kept = ", ".join(map(shown, _BY_ID[name].keys))
        problems.append(f"{name}: {shown(key)} is the key of {owner}; {name} keeps {kept}")
    return {name: ",".join(wanted[name]) for name in _BY_ID if name in wanted}, problems


def keys_of(command: Command, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a command under a keymap that `check` made."""
    return tuple(keymap[command.id].split(",")) if command.id in keymap else command.keys


def _typed_in(name: str, keys: Iterable[str]) -> bool:
    """Whether keys of a command would be taken as text where it is typed; those it has are known to work there."""
    return _CONTEXT_OF[name] in ("prompt", "editor", "edit") and any(
        types(key) for key in keys if key not in _BY_ID[name].keys
    )


def _clash(wanted: Mapping[str, tuple[str, ...]]) -> tuple[str, str, str] | None:
    """The first command that wants a key of another: its id, the key, the other's id."""
    owners: dict[str, list[str]] = {}
    # First those that nobody changed, and so on in the order of the table
    for name in sorted(_BY_ID, key=lambda name: name in wanted):
        own = _BY_ID[name].keys
        for key in wanted.get(name, own):
            for owner in owners.setdefault(key, []):
                if _meet(name, owner) and not (key in own and key in _BY_ID[owner].keys):
                    return name, key, owner
            owners[key].append(name)
    return None


def _meet(one: str, other: str) -> bool:
    """Whether two commands can be in force at the same time; those of the app always are."""
    contexts = _CONTEXT_OF[one], _CONTEXT_OF[other]
    first, second = (_TOGETHER.get(context, context) for context in contexts)
    if frozenset(contexts) in _APART:
        return False
    return first == second or "app" in (first, second)
