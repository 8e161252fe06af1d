"""What the slash commands of the prompt do. Each function takes the screen and what follows the command's name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dgtui.diffusion.settings import SAMPLER, Spec
from dgtui.errors import UsageError
from dgtui.paths import typed_path
from dgtui.steering.drafts import Refused
from dgtui.tui.commands import Slash

if TYPE_CHECKING:
    from dgtui.tui.screens.chat import ChatScreen


def obey(screen: "ChatScreen", slash: Slash, argument: str) -> None:
    """Runs a command. Raises a `DgtuiError` where it cannot be done."""
    _ACTIONS[slash.name](screen, argument)


def _model(screen: "ChatScreen", name: str) -> None:
    if not name:
        facts = screen.backend.facts
        loaded = f"loaded: {facts.name}; " if facts else ""
        screen.say(f"{loaded}here: {', '.join(screen.backend.names())}")
        return
    if screen.panel.running:
        raise Refused("a reply is being written", hint="esc stops it")
    screen.panel.draft = None
    screen.panel.close()
    screen.load(name)


def _system(screen: "ChatScreen", text: str) -> None:
    if text:
        screen.chat.instruct(text)
        screen.say("the system prompt is set")
    else:
        screen.say(screen.chat.system or "there is no system prompt: /system TEXT sets one")


def _seed(screen: "ChatScreen", text: str) -> None:
    if not text:
        screen.seed = None
        screen.say("every reply gets a new seed")
    elif text.isascii() and text.isdigit() and int(text) < 2**63:
        screen.seed = int(text)
        screen.say(f"replies get seed {text}")
    else:
        raise UsageError("a seed is a whole number from 0 on", hint="/seed alone: a new one for each reply")


def _sampler(spec: Spec) -> Callable[["ChatScreen", str], None]:
    def act(screen: "ChatScreen", text: str) -> None:
        facts = screen.backend.facts
        if facts is None:
            raise Refused("no model is loaded yet")
        if not text:
            screen.sampler.pop(spec.name, None)
            value = getattr(screen.sampler_settings(), spec.name)
            screen.say(f"/{spec.command}: {spec.shown(value)}, the model's own value")
            return
        try:
            value = spec.read(spec.kind(text))
        except ValueError:
            raise UsageError(f"/{spec.command} takes {spec.expects}, not {text!r}") from None
        changed = screen.sampler | {spec.name: value}
        replace(facts.settings, **changed)  # raises if they contradict each other
        screen.sampler = changed
        if screen.panel.draft:
            screen.panel.draft.settings = screen.sampler_settings()
        screen.say(f"/{spec.command}: {spec.shown(value)}, from the next run on")

    return act


def _think(screen: "ChatScreen", text: str) -> None:
    if text not in ("", "on", "off"):
        raise UsageError("/think takes on or off")
    screen.think = not screen.think if not text else text == "on"
    screen.say(f"thinking is {'on' if screen.think else 'off'}")


def _image(screen: "ChatScreen", name: str) -> None:
    if name == "-":
        screen.attached.drop()
        screen.say("no image goes with the next message")
    elif name:
        screen.attached.attach(typed_path(name))
    else:
        screen.say(screen.attached.says() or "no image is attached: /image FILE sends one with the next message")


def _frame(screen: "ChatScreen", text: str) -> None:
    place, _, words = text.partition(" ")
    if text and not (place.isascii() and place.isdigit()):
        place, words = "0", text
    screen.panel.open_frame(words, int(place or 0))
    screen.panel.canvas.focus()


def _record(screen: "ChatScreen", name: str) -> None:
    version = screen.panel.version
    if version is None:
        raise Refused("there is no run to record yet")
    path = typed_path(name) if name else None
    if path is None:
        screen.panel.action_record()
    elif path.exists():
        raise UsageError(f"{path} is there already", hint="give another name")
    elif not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")
    else:
        screen.panel.save(path)


def _export(screen: "ChatScreen", name: str) -> None:
    from dgtui.session import export

    if screen.chat.id is None:
        raise Refused("there is nothing to export yet")
    if not name:
        raise UsageError("/export takes a file", hint="for instance /export notes.md or /export notes.json")
    path = typed_path(name)
    conversation, turns = screen.store.get(screen.chat.id), screen.store.turns(screen.chat.id)
    if path.suffix == ".json":
        import json

        text = json.dumps(export.to_json(conversation, turns), indent=2, ensure_ascii=False) + "\n"
    else:
        text = export.to_markdown(conversation, turns)
    export.write(path, text)
    screen.say(f"written to {path}")


def _sessions(screen: "ChatScreen", search: str) -> None:
    from dgtui.tui.screens.sessions import Sessions

    def chosen(conversation: str | None) -> None:
        if conversation is not None:
            screen.open(conversation)
        elif screen.chat.id is not None and not _there(screen, screen.chat.id):
            screen.new()

    if screen.panel.running:
        raise Refused("a reply is being written", hint="esc stops it")
    screen.app.push_screen(Sessions(screen.store, search=search), chosen)


def _there(screen: "ChatScreen", conversation: str) -> bool:
    return any(c.id == conversation for c in screen.store.conversations(limit=1_000_000))


def _theme(screen: "ChatScreen", name: str) -> None:
    if not name:
        screen.say(f"theme: {screen.app.theme}; here: {', '.join(screen.argument_choices('themes'))}")
    elif name in screen.argument_choices("themes"):
        screen.app.theme = name
    else:
        raise UsageError(f"there is no theme {name}", hint="/theme alone lists them")


def _bench(screen: "ChatScreen", text: str) -> None:
    from dgtui.tui.screens.speed import Speed

    if screen.backend.facts is None:
        raise Refused("no model is loaded yet")
    if screen.panel.running:
        raise Refused("a reply is being written", hint="esc stops it")
    screen.app.push_screen(Speed(screen.backend))


def _help(screen: "ChatScreen", text: str) -> None:
    from dgtui.tui.screens.help import Help

    screen.app.push_screen(Help(contexts=screen.CONTEXTS))


def _new(screen: "ChatScreen", text: str) -> None:
    if screen.panel.running:
        raise Refused("a reply is being written", hint="esc stops it")
    screen.new()


def _rename(screen: "ChatScreen", title: str) -> None:
    if screen.chat.id is None:
        raise Refused("there is no conversation yet")
    if not title:
        raise UsageError("/rename takes a title")
    screen.store.rename(screen.chat.id, title)
    screen.draw_top()


def _delete(screen: "ChatScreen", text: str) -> None:
    if screen.chat.id is None:
        raise Refused("this conversation is not stored")
    if screen.panel.running:
        raise Refused("a reply is being written", hint="esc stops it")
    if text != "yes":
        raise Refused("this deletes the conversation for good", hint="/delete yes does it")
    screen.store.delete(screen.chat.id)
    screen.new()


def _quit(screen: "ChatScreen", text: str) -> None:
    screen.app.exit()


_ACTIONS: Final[Mapping[str, Callable[["ChatScreen", str], None]]] = {
    "model": _model,
    "system": _system,
    "seed": _seed,
    **{spec.command: _sampler(spec) for spec in SAMPLER},
    "think": _think,
    "image": _image,
    "frame": _frame,
    "record": _record,
    "export": _export,
    "sessions": _sessions,
    "search": _sessions,
    "theme": _theme,
    "bench": _bench,
    "help": _help,
    "new": _new,
    "rename": _rename,
    "delete": _delete,
    "quit": _quit,
}
