"""The slash commands of the chat. `do_NAME` takes the command's argument and returns a notice."""

import json
from collections.abc import Callable
from functools import partial

from dgtui.diffusion.settings import SAMPLER, Spec
from dgtui.errors import UsageError
from dgtui.paths import typed_path
from dgtui.steering.drafts import Refused
from dgtui.tui.commands import Slash
from dgtui.tui.conversation_controller import ConversationController
from dgtui.tui.screens.base import BaseScreen
from dgtui.tui.widgets.attached import Attached
from dgtui.tui.widgets.canvas_panel import CanvasPanel


class ChatCommands:
    """The commands of a chat.

    Args:
        load: Loads a model by its name; the second argument is the command that asked for it.
        preview: Opens or closes the preview.
    """

    def __init__(
        self,
        screen: BaseScreen,
        conversation: ConversationController,
        panel: CanvasPanel,
        attached: Attached,
        load: Callable[[str, str], None],
        preview: Callable[[], None],
    ) -> None:
        self._screen, self._conversation, self._panel, self._attached = screen, conversation, panel, attached
        self._load, self._preview = load, preview

    def dispatch(self, slash: Slash, argument: str) -> None:
        """Runs a command. Raises a `DgtuiError` or `BadJob` if it cannot be done."""
        spec = next((spec for spec in SAMPLER if spec.command == slash.name), None)
        do = partial(self._set, spec) if spec else getattr(self, f"do_{slash.name}")
        if notice := do(argument):
            self._screen.notify(notice)

    def do_model(self, name: str) -> str | None:
        if not name:
            facts = self._panel.backend.facts
            loaded = f"loaded: {facts.name}; " if facts else ""
            return f"{loaded}on this machine: {', '.join(self._panel.backend.names())}"
        self._conversation.refuse_while_running()
        self._panel.steering.draft = None
        self._panel.close()
        self._load(name, f"/model {name}")
        return None

    def do_system(self, text: str) -> str:
        if not text:
            return self._conversation.chat.system or "there is no system prompt: use /system TEXT to set one"
        self._conversation.chat.instruct(text)
        return "the system prompt is set"

    def do_seed(self, text: str) -> str:
        if text and not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
            raise UsageError(
                "a seed must be a whole number, 0 or more", hint="use /seed alone for a new seed for each reply"
            )
        self._conversation.seed = int(text) if text else None
        return f"replies use seed {text}" if text else "each reply uses a new seed"

    def _set(self, spec: Spec, text: str) -> str:
        """Changes a sampler setting; without a value, restores the model's own."""
        try:
            value = spec.read(spec.kind(text)) if text else None
        except ValueError:
            raise UsageError(f"/{spec.command} takes {spec.expects}, not {text!r}") from None
        self._conversation.change_setting(spec.name, value)
        now = getattr(self._conversation.settings(), spec.name)
        return f"/{spec.command}: {spec.shown(now)}, {'from the next run on' if text else 'the default of the model'}"

    def do_think(self, text: str) -> str:
        if text not in ("", "on", "off"):
            raise UsageError("/think takes on or off")
        self._conversation.think = text == "on" if text else not self._conversation.think
        return f"thinking is {'on' if self._conversation.think else 'off'}"

    def do_image(self, name: str) -> str | None:
        if name == "-":
            self._attached.drop()
            return "the next message is sent without an image"
        if not name:
            return self._attached.says() or "no image is attached: use /image FILE to send one with the next message"
        self._attached.attach(typed_path(name))
        return None

    def do_continue(self, _: str) -> None:
        self._conversation.continue_reply()

    def do_template(self, text: str) -> None:
        self._panel.open_template(text)

    def do_record(self, name: str) -> str:
        path = typed_path(name) if name else None
        if self._panel.steering.version is None:
            raise Refused("there is no run to record yet")
        if path is not None and path.exists():
            raise UsageError(f"{path} already exists", hint="choose another name")
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}")
        return self._panel.steering.record(path)

    def do_export(self, name: str) -> str:
        from dgtui.session import export

        conversation = self._stored("there is nothing to export yet")
        if not name:
            raise UsageError("/export takes a file", hint="for example /export notes.md or /export notes.json")
        path, store = typed_path(name), self._conversation.store
        if path.suffix.lower() not in (".md", ".json"):
            raise UsageError(f"cannot export to {path}", hint="the name must end in .md or .json")
        stored, turns = store.get(conversation), store.turns(conversation)
        if path.suffix.lower() == ".json":
            text = json.dumps(export.to_json(stored, turns), indent=2, ensure_ascii=False) + "\n"
        else:
            text = export.to_markdown(stored, turns)
        export.write(path, text)
        return f"written to {path}"

    def do_sessions(self, search: str) -> None:
        from dgtui.tui.screens.sessions import Sessions

        def chosen(conversation: str | None) -> None:
            if conversation is not None:
                self._screen.guarded(lambda: self._conversation.open(conversation))
            elif self._conversation.is_deleted:
                self._conversation.new()

        self._conversation.refuse_while_running()
        self._screen.app.push_screen(Sessions(self._conversation.store, search=search), chosen)

    do_search = do_sessions

    def do_theme(self, name: str) -> str | None:
        app = self._screen.app
        if not name:
            return f"theme: {app.theme}; available: {', '.join(app.theme_names)}"
        if name not in app.theme_names:
            raise UsageError(f"there is no theme {name}", hint="use /theme alone to list them")
        app.theme = name
        return None

    def do_preview(self, _: str) -> None:
        self._preview()

    def do_settings(self, _: str) -> None:
        from dgtui.tui.screens.preferences import Preferences

        self._screen.app.push_screen(Preferences())

    def do_bench(self, _: str) -> None:
        from dgtui.tui.screens.speed import Speed

        if self._panel.backend.facts is None:
            raise Refused("no model is loaded yet")
        self._conversation.refuse_while_running()
        self._screen.app.push_screen(Speed(self._panel.backend))

    def do_help(self, _: str) -> None:
        self._screen.app.action_help()

    def do_new(self, _: str) -> None:
        self._conversation.refuse_while_running()
        self._conversation.new()

    def do_rename(self, title: str) -> None:
        conversation = self._stored("there is no conversation yet")
        if not title:
            raise UsageError("/rename takes a title")
        self._conversation.store.rename(conversation, title)
        self._screen.draw_top()

    def do_delete(self, text: str) -> None:
        conversation = self._stored("this conversation is not stored")
        self._conversation.refuse_while_running()
        if text != "yes":
            raise Refused("this deletes the conversation permanently", hint="confirm with /delete yes")
        self._conversation.store.delete(conversation)
        self._conversation.new()

    def do_quit(self, _: str) -> None:
        self._screen.app.exit()

    def _stored(self, refusal: str) -> str:
        """The id of the conversation. Raises `Refused` before its first message."""
        if self._conversation.chat.id is None:
            raise Refused(refusal)
        return self._conversation.chat.id
