"""All key bindings as data: for the screens, the help, `dgtui keys` and the `[keys]` section of the settings.

Every command has a key that a plain terminal sends; only additional keys may need Ctrl+Shift or the Kitty protocol.
`check` validates the settings, because Textual silently accepts unknown ids and keys and leaves the command without a
key.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dgtui.mistakes import closest_dotted, did_you_mean, in_brackets
from dgtui.tui.key_commands import Command, editing, moves, steering
from dgtui.tui.key_names import normal, shown, types

if TYPE_CHECKING:
    from textual.binding import Binding
    from textual.widget import Widget


COMMANDS: Final[Mapping[str, tuple[Command, ...]]] = MappingProxyType(
    {
        "app": (
            Command("app.help", ("f1", "question_mark"), "app.help", "help", "list keys and commands", True),
            Command("app.palette", ("ctrl+p",), "app.command_palette", "commands", "find a command by name"),
            Command("app.next_part", ("tab",), "app.focus_next", "next part", "move to the next part of the screen"),
            Command("app.previous_part", ("shift+tab",), "app.focus_previous", "previous part",
                    "move to the previous part of the screen"),
            Command("app.quit", ("ctrl+q",), "app.quit", "quit",
                    "quit at once; asks only if a file has unsaved changes"),
        ),
        "chat": (
            Command("app.interrupt", ("ctrl+c",), "screen.interrupt", "stop",
                    "copy the selection, or stop the run, or quit"),
        ),
        "talk": (Command("talk.stop", ("escape",), "screen.stop", "stop", "stop the run and keep its draft"),),
        "start": tuple(
            Command(f"start.{name}", (key,), f"screen.start('{name}')", name, help)
            for name, key, help in (
                ("tale", "f2", "a tale: type a name, then press enter"),
                ("between", "f3", "write between a first and a last sentence"),
                ("sudoku", "f4", "a Sudoku: the given digits are pinned"),
                ("json", "f5", "a sentence as JSON"),
            )
        ),
        "canvas": tuple(moves()),
        "steering": tuple(steering()),
        "typing": (
            Command("typing.keep", ("enter",), "keep", "pin", "pin the typed text", True),
            Command("typing.newline", ("ctrl+j", "shift+enter"), "newline", "new line", "break the line", True),
            Command("typing.close", ("escape",), "close", "leave", "leave the canvas as it was", True),
        ),
        "transcript": (
            Command("transcript.raw", ("m",), "screen.raw", "raw",
                    "show replies as Markdown or as written", True),
            Command("transcript.edit_reply", ("e",), "screen.edit_reply", "edit",
                    "steer the last reply again, or change an earlier message in a branch", True),
            Command("transcript.regenerate", ("R",), "screen.regenerate", "regenerate",
                    "generate the reply again", True),
            Command("transcript.continue", ("c",), "screen.continue_reply", "continue", "continue a cut reply", True),
            Command("transcript.preview", ("o",), "screen.preview", "preview",
                    "show the reply rendered, with SVG drawn", True),
            Command("transcript.copy", ("y",), "screen.copy", "copy", "copy the marked turn", True),
            Command("transcript.fold", ("enter",), "fold", "fold", "fold or unfold the thought"),
            Command("transcript.up", ("up",), "go(-1)", "up", "previous turn"),
            Command("transcript.down", ("down",), "go(1)", "down", "next turn"),
            Command("transcript.page_up", ("pageup",), "page(-1)", "page up", "one page up"),
            Command("transcript.page_down", ("pagedown",), "page(1)", "page down", "one page down"),
            Command("transcript.home", ("home",), "edge('first')", "first", "first turn"),
            Command("transcript.end", ("end",), "edge('last')", "last", "last turn"),
        ),
        "preview": (
            Command("preview.close", ("o", "escape"), "screen.preview", "close", "close the preview", True),
            Command("preview.up", ("up",), "scroll_up", "up", "one line up"),
            Command("preview.down", ("down",), "scroll_down", "down", "one line down"),
            Command("preview.page_up", ("pageup",), "page_up", "page up", "one page up"),
            Command("preview.page_down", ("pagedown",), "page_down", "page down", "one page down"),
            Command("preview.home", ("home",), "scroll_home", "first", "to the start"),
            Command("preview.end", ("end",), "scroll_end", "last", "to the end"),
        ),
        "prompt": (
            Command("prompt.send", ("enter",), "send", "send", "send the message", True),
            Command("prompt.newline", ("ctrl+j", "shift+enter"), "newline", "new line", "break the line", True),
            Command("prompt.older", ("up",), "older", "older", "previous message, from the first line of the prompt"),
            Command("prompt.newer", ("down",), "newer", "newer", "next message, from the last line of the prompt"),
            Command("prompt.complete", ("tab",), "complete", "complete", "complete a command, or a path after @"),
            Command("prompt.close", ("escape",), "close", "close", "close the completions"),
        ),
        "alternatives": (
            Command("alternatives.previous", ("up",), "cursor_up", "up", "mark a more probable token"),
            Command("alternatives.next", ("down",), "cursor_down", "down", "mark a less probable token"),
            Command("alternatives.pick", ("enter",), "select", "pick",
                    "pin the marked token and denoise the rest around it", True),
            Command("alternatives.close", ("escape",), "close", "close", "keep the token", True),
        ),
        "sessions": (
            Command("sessions.open", ("enter",), "open", "open", "open the conversation", True),
            Command("sessions.search", ("slash",), "search", "search", "search all conversations", True),
            Command("sessions.rename", ("r",), "rename", "rename", "rename the conversation", True),
            Command("sessions.delete", ("d", "delete"), "delete", "delete", "delete the conversation", True),
            Command("sessions.close", ("escape",), "close", "close", "go back", True),
        ),
        "replay": (
            Command("replay.play", ("space",), "screen.play", "play", "play the run, or pause it", True),
            Command("replay.scrub_back", ("left_square_bracket",), "screen.scrub(-1)", "back", "previous step", True),
            Command("replay.scrub_forward", ("right_square_bracket",), "screen.scrub(1)", "forward", "next step", True),
            Command("replay.scrub_first", ("left_curly_bracket",), "screen.scrub_to('first')", "first step",
                    "first step"),
            Command("replay.scrub_last", ("right_curly_bracket",), "screen.scrub_to('last')", "last step",
                    "last step"),
            Command("replay.faster", ("plus",), "screen.speed(1)", "faster", "play faster", True),
            Command("replay.slower", ("minus",), "screen.speed(-1)", "slower", "play slower", True),
            Command("replay.alternatives", ("a",), "screen.alternatives", "alternatives",
                    "show alternatives for the token under the cursor", True),
            Command("replay.copy", ("y",), "screen.copy", "copy",
                    "copy the selection, or the reply at this step", True),
            Command("replay.next_candidate", ("n",), "screen.candidate(1)", "next candidate",
                    "show the next of several canvases that were denoised together"),
            Command("replay.previous_candidate", ("N",), "screen.candidate(-1)", "previous candidate",
                    "previous candidate"),
            Command("replay.leave", ("escape", "q"), "screen.leave", "leave", "close the replay", True),
        ),
        "editor": tuple(editing()),
        "edit": (
            Command("edit.rediffuse", ("ctrl+r",), "screen.rediffuse", "re-diffuse",
                    "denoise the selection and the marked spans again; the rest is fixed", True),
            Command("edit.instruct", ("ctrl+k",), "screen.instruct", "instruct",
                    "rewrite the selection according to an instruction",
                    True),
            Command("edit.gap", ("ctrl+g",), "screen.gap", "insert", "let the model insert text at the cursor",
                    True),
            Command("edit.mark", ("ctrl+d",), "screen.mark", "mark",
                    "mark the selection for a run with several spans; again to unmark it", True),
            Command("edit.proposals", ("ctrl+n",), "screen.proposals", "proposals",
                    "show the proposals for the text at the cursor again"),
            Command("edit.save", ("ctrl+s",), "screen.save", "save", "save the file", True),
            Command("edit.save_as", ("ctrl+o",), "screen.save_as", "save as", "save under another name"),
            Command("edit.find", ("ctrl+f",), "screen.find", "find", "find text", True),
            Command("edit.cancel", ("escape",), "screen.cancel", "cancel", "clear the marks"),
        ),
        "review": (
            Command("review.accept", ("enter",), "screen.review('accept')", "accept", "accept this change", True),
            Command("review.reject", ("backspace",), "screen.review('reject')", "reject", "reject this change", True),
            Command("review.accept_all", ("A",), "screen.review('accept', True)", "all", "accept all changes", True),
            Command("review.reject_all", ("X",), "screen.review('reject', True)", "none", "reject all changes", True),
            Command("review.previous", ("up",), "screen.review('change', -1)", "up", "the previous change"),
            Command("review.next", ("down",), "screen.review('change', 1)", "down", "the next change"),
            Command("review.next_proposal", ("n",), "screen.review('proposal', 1)", "next", "the next proposal", True),
            Command("review.previous_proposal", ("N",), "screen.review('proposal', -1)", "before",
                    "show the previous proposal"),
            Command("review.again", ("g",), "screen.review('again')", "again",
                    "get more proposals with a new seed", True),
            Command("review.page_up", ("pageup",), "screen.review('page', -1)", "page up", "scroll a page up"),
            Command("review.page_down", ("pagedown",), "screen.review('page', 1)", "page down", "scroll a page down"),
            Command("review.leave", ("escape",), "screen.cancel", "back",
                    "stop the run and review its draft, or return to the text", True),
        ),
    }
)  # fmt: skip
"""Context → its commands, in the order of the footer. "chat" is the whole screen of chat and replay, "talk" the chat
screen, "start" its card of prompts, "steering" the canvas panel."""

_PAIRS: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("canvas.scrub_back", "canvas.scrub_forward", "replay.scrub_back", "replay.scrub_forward"), "scrub")
    | dict.fromkeys(("replay.faster", "replay.slower"), "speed")
)
"""Commands that share a label in the footer."""

_FIRST: Final = frozenset(
    "app.palette app.interrupt app.quit edit.rediffuse edit.instruct edit.gap edit.mark edit.proposals edit.save "
    "edit.save_as edit.find".split()
)
"""Run before the focused widget, such as a text area, can take the key."""

_TOGETHER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "steering": "canvas",
        "replay": "canvas",
        "chat": "app",
        "talk": "app",
        "start": "app",
        "editor": "edit",
        "review": "edit",
    }
)
"""Contexts that are always active together with another."""

_APART: Final = (frozenset({"steering", "replay"}), frozenset({"editor", "review"}))
"""Contexts that are active together with a third one, but never with each other."""

_BY_ID: Final = {command.id: command for commands in COMMANDS.values() for command in commands}
_CONTEXT_OF: Final = {command.id: context for context, commands in COMMANDS.items() for command in commands}


def bindings(context: str) -> "list[Binding]":
    """The bindings of a context, for the `BINDINGS` of a widget or a screen."""
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


def possible(node: object, action: str) -> bool:
    """Whether an action has an effect now. A node that knows this has a method `can`."""
    can = getattr(node, "can", None)
    return can is None or bool(can(action.partition("(")[0]))


async def run_own(widget: "Widget", key: str) -> bool:
    """Runs a widget's command for a key at once, or the command that leaves it. Returns whether there was one.

    Textual passes a bound key up to the app before it runs the action; keys pressed in the meantime would overtake it.
    """
    active = widget.screen.active_bindings.get(key)
    if active is None or (active.node is not widget and active.binding.action != "app.focus_previous"):
        return False
    return await widget.app.run_action(active.binding.action, active.node)


def context_of(id: str) -> str:
    """The context of a command; empty if there is no such command."""
    return _CONTEXT_OF.get(id, "")


def ids() -> frozenset[str]:
    """The ids that `[keys]` may name."""
    return frozenset(_BY_ID)


def check(overrides: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, str], list[str]]:
    """The valid part of the configured keys, for `App.set_keymap`, and the problems with the rest.

    A key of another command is rejected, unless that command gets another key, so no command is left without keys. A
    command whose keys are rejected keeps its default keys.
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
                problems.append(f"{name}: {shown(names[0])} is needed for typing text; not used")
            else:
                taken += names
        if taken:
            wanted[name] = tuple(dict.fromkeys(taken))
    # A rejected command keeps its default keys, which may clash with those of another command
    while clash := _clash(wanted):
        name, key, owner = clash
        del wanted[name]
        kept = ", ".join(map(shown, _BY_ID[name].keys))
        problems.append(f"{name}: {shown(key)} is already the key of {owner}; {name} keeps {kept}")
    return {name: ",".join(wanted[name]) for name in _BY_ID if name in wanted}, problems


def keys_of(command: Command, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a command with a keymap from `check`."""
    return tuple(keymap[command.id].split(",")) if command.id in keymap else command.keys


def _typed_in(name: str, keys: Iterable[str]) -> bool:
    """Whether new keys of a command would type text in its context. Its default keys are known to work."""
    return _CONTEXT_OF[name] in ("prompt", "typing", "editor", "edit") and any(
        types(key) for key in keys if key not in _BY_ID[name].keys
    )


def _clash(wanted: Mapping[str, tuple[str, ...]]) -> tuple[str, str, str] | None:
    """The first command that wants a key of another: its id, the key, the id of the other."""
    owners: dict[str, list[str]] = {}
    # Unchanged commands first, otherwise in the order of the table
    for name in sorted(_BY_ID, key=lambda name: name in wanted):
        own = _BY_ID[name].keys
        for key in wanted.get(name, own):
            for owner in owners.setdefault(key, []):
                if _meet(name, owner) and not (key in own and key in _BY_ID[owner].keys):
                    return name, key, owner
            owners[key].append(name)
    return None


def _meet(one: str, other: str) -> bool:
    """Whether two commands can be active at the same time; those of the app always are."""
    contexts = _CONTEXT_OF[one], _CONTEXT_OF[other]
    first, second = (_TOGETHER.get(context, context) for context in contexts)
    if frozenset(contexts) in _APART:
        return False
    return first == second or "app" in (first, second)
