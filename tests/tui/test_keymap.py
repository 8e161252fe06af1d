"""Key bindings: a plain terminal can send every key; a bad remap is reported and removes no key."""

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events
from textual._xterm_parser import XTermParser
from textual.actions import parse
from textual.app import App, ComposeResult
from textual.keys import _character_to_key, format_key
from textual.widgets import Static, TextArea

from dgtui.tui import keymap
from dgtui.tui.key_commands import Command
from dgtui.tui.key_names import normal, plain, shown, types
from dgtui.tui.keymap import COMMANDS, bindings, check, ids

ALL = [command for commands in COMMANDS.values() for command in commands]
BY_ID = {command.id: command for command in ALL}
MOVES = "left right up down home end page_up page_down word_left word_right".split()
IDS = {
    *(f"canvas.{move}" for move in MOVES),
    *(f"canvas.select_{move}" for move in MOVES),
    *(
        "canvas." + name
        for name in "anchor pause step scrub_back scrub_forward scrub_first scrub_last rediffuse stronger weaker "
        "polish gap gap_length type pin alternatives fork branches next_proposal previous_proposal copy record undo "
        "redo accept stop".split()
    ),
    *("transcript." + name for name in "raw edit_reply regenerate copy".split()),
    *("prompt." + name for name in "send newline older newer complete".split()),
    *("app." + name for name in "help palette interrupt quit next_part previous_part".split()),
}

# What xterm sends, without any protocol: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
_CURSOR = dict(zip("up down right left end home".split(), "ABCDFH", strict=True))
_TILDE = {"insert": 2, "delete": 3, "pageup": 5, "pagedown": 6} | dict(
    zip([f"f{n}" for n in range(5, 13)], [15, 17, 18, 19, 20, 21, 23, 24], strict=True)
)
_SS3 = {"f1": "P", "f2": "Q", "f3": "R", "f4": "S"}
_MODIFIER = {"shift": 2, "alt": 3, "alt+shift": 4, "ctrl": 5}


def sent(key: str) -> str:
    """The bytes that a plain terminal sends for a key, by its name in Textual."""
    if named := {"enter": "\r", "tab": "\t", "escape": "\x1b", "backspace": "\x7f", "shift+tab": "\x1b[Z"}.get(key):
        return named
    before, _, name = key.rpartition("+")
    modifier = _MODIFIER.get(before)
    if name in _CURSOR:
        return f"\x1b[1;{modifier}{_CURSOR[name]}" if modifier else f"\x1b[{_CURSOR[name]}"
    if name in _TILDE:
        return f"\x1b[{_TILDE[name]};{modifier}~" if modifier else f"\x1b[{_TILDE[name]}~"
    if name in _SS3:
        return f"\x1b[1;{modifier}{_SS3[name]}" if modifier else f"\x1bO{_SS3[name]}"
    sign = " " if name == "space" else "@" if name == "@" else shown(name)
    if before == "ctrl":
        return chr(ord(sign.upper()) & 0x1F)
    if before in ("alt", "alt+shift"):
        return "\x1b" + (sign.upper() if "shift" in before else sign)
    assert not before
    return sign


def heard(data: str) -> list[str]:
    """The keys that Textual reads from some bytes."""
    parser = XTermParser()
    tokens = [*parser.feed(data), *parser.feed("")]
    return [token.key for token in tokens if isinstance(token, events.Key)]


def problems(**overrides: str | tuple[str, ...]) -> list[str]:
    given = {name.replace("__", "."): (keys,) if isinstance(keys, str) else keys for name, keys in overrides.items()}
    return check(given)[1]


# The table


def test_every_command_of_the_design_is_there() -> None:
    assert ids() >= IDS
    assert COMMANDS.keys() >= {"app", "canvas", "transcript", "prompt", "alternatives", "sessions"}


def test_an_id_names_one_command() -> None:
    assert len(BY_ID) == len(ALL)
    assert ids() == BY_ID.keys()
    for context, commands in COMMANDS.items():
        prefix = {"steering": "canvas", "chat": "app"}.get(context, context)
        assert all(command.id.startswith(f"{prefix}.") for command in commands)


def test_every_command_says_what_it_does() -> None:
    for command in ALL:
        assert command.label and command.help and len(command.label) <= 20
        assert not command.help.endswith(".") and "\n" not in command.help


def test_the_footer_has_room_for_what_it_shows() -> None:
    for context in ("steering", "transcript", "prompt", "alternatives", "sessions"):
        some = [command for command in COMMANDS[context] if command.footer]
        assert some
        assert sum(len(shown(command.keys[0])) + len(command.label) + 3 for command in some[:5]) <= 80


@pytest.mark.parametrize("command", ALL, ids=[command.id for command in ALL])
def test_a_plain_terminal_sends_the_first_key_and_textual_calls_it_so(command: Command) -> None:
    for key in command.keys:
        assert normal(key) == (key,)
    key = command.keys[0]
    assert plain(key)
    assert "ctrl+shift" not in key
    assert heard(sent(key)) == [key]


@pytest.mark.parametrize("command", ALL, ids=[command.id for command in ALL])
def test_actions_are_such_that_textual_can_run_them(command: Command) -> None:
    namespace, name, arguments = parse(command.action)
    assert namespace in ("", "app", "screen") and name.isidentifier()
    assert all(isinstance(argument, int | float | str) for argument in arguments)


def test_no_key_means_two_things_in_one_place() -> None:
    for contexts in (["canvas", "steering", "chat"], ["transcript", "chat"], ["prompt", "chat"], ["app", "chat"]):
        keys = Counter(key for context in contexts for command in COMMANDS[context] for key in command.keys)
        assert keys.most_common(1)[0][1] == 1
    everywhere = {key for context in ("app", "chat") for command in COMMANDS[context] for key in command.keys}
    hidden = {key for command in ALL if command.id not in IDS or command.id[:3] != "app" for key in command.keys}
    assert everywhere & hidden == {"tab"}  # completes a command in the prompt, else goes on


def test_bindings_carry_id_help_and_whether_the_footer_shows_them() -> None:
    for context, commands in COMMANDS.items():
        made = bindings(context)
        assert [binding.id for binding in made] == [command.id for command in commands]
        assert [binding.show for binding in made] == [command.footer for command in commands]
        assert all(binding.tooltip and binding.description for binding in made)


def test_what_answers_before_the_focused_widget_types_nothing() -> None:
    first = [binding for context in COMMANDS for binding in bindings(context) if binding.priority]
    assert {binding.id for binding in first if binding.id and not binding.id.startswith("edit.")} == {
        "app.palette", "app.interrupt", "app.quit",
    }  # fmt: skip
    assert not any(types(key) for binding in first for key in binding.key.split(","))


# Names of keys


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("r", "r"), ("R", "R"), ("shift+r", "R"), ("?", "question_mark"), ("question_mark", "question_mark"),
        (".", "full_stop"), ("[", "left_square_bracket"), ("+", "plus"), ("plus", "plus"), ("-", "minus"),
        ("minus", "minus"), (",", "comma"), ("/", "slash"), ("\\", "backslash"), ("@", "at"), ("_", "underscore"),
        (" ", "space"), ("space", "space"), ("Ctrl+P", "ctrl+p"), ("control+p", "ctrl+p"),
        ("shift+ctrl+p", "ctrl+shift+p"), ("option+x", "alt+x"), ("less_than_sign", "less_than_sign"),
        ("esc", "escape"), ("Return", "enter"), ("PgUp", "pageup"), ("page_down", "pagedown"), ("DEL", "delete"),
        ("F5", "f5"), ("shift+Tab", "shift+tab"), ("ctrl++", "ctrl+plus"), ("ä", "ä"), ("€", "euro_sign"),
        ("euro_sign", "euro_sign"), ("alt+X", "alt+shift+x"), ("ctrl+]", "ctrl+right_square_bracket"),
    ],
)  # fmt: skip
def test_a_key_is_understood_however_it_is_written(written: str, name: str) -> None:
    assert normal(written) == (name,)


@pytest.mark.parametrize(
    "written",
    ["", "  x y ", "ctrl+", "ctrl+mouse", "shift+1", "shift+?", "ctrl+ctrl+p", "crtl+p", "f13", "nokey", "\x1b", "\x00",
     "\u200b", "\ue000x", "ab", "ctrl++x", "mouse", "ctrl+\x1b"],
)  # fmt: skip
def test_what_no_terminal_sends_has_no_name(written: str) -> None:
    assert normal(written) == ()


def test_a_key_that_textual_names_twice_is_bound_by_both_names() -> None:
    assert normal("ctrl+space") == ("ctrl+@", "ctrl+space")
    assert heard("\x00") == ["ctrl+@"]
    assert heard("\x1b[32;5u") == ["ctrl+space"]


def test_the_names_of_characters_are_textuals() -> None:
    for code in (*range(0x20, 0x7F), *range(0xA1, 0x180), *range(0x391, 0x3A0), *range(0x410, 0x450), 0x20AC):
        sign = chr(code)
        if sign.isprintable():
            assert normal(sign) == (_character_to_key(sign),)
            assert shown(normal(sign)[0]) == ("space" if sign == " " else sign)
            assert heard(sign) == list(normal(sign))


def test_plain_keys_are_those_that_reach_textual_from_any_terminal() -> None:
    names = [*_CURSOR, *_TILDE, *_SS3, "enter", "tab", "escape", "backspace", "space"]
    letters = [*map(chr, range(ord("a"), ord("z") + 1)), *"]\\^_@"]
    written = [
        *names, *letters, *"RUNI?+-.{}<>",
        *(f"{modifier}+{name}" for modifier in ("shift", "ctrl", "alt", "ctrl+shift") for name in (*names, *letters)),
    ]  # fmt: skip
    for key in dict.fromkeys(itertools.chain.from_iterable(map(normal, written))):
        if plain(key):
            assert heard(sent(key)) == [key]
    assert not any(map(plain, ("ctrl+i", "ctrl+m", "ctrl+h", "ctrl+shift+p", "shift+enter", "ctrl+enter", "alt+b")))


@pytest.mark.parametrize(
    ("data", "key"),
    [("\x1b[13;2u", "shift+enter"), ("\x1b[112;6u", "ctrl+shift+p"), ("\x1b[13;5u", "ctrl+enter"),
     ("\x1b[105;5u", "ctrl+i"), ("\x1b[114;2;82u", "R"), ("\x1b[47;2;63u", "question_mark"),
     ("\x1b[120;4u", "alt+shift+x")],
)  # fmt: skip
def test_keys_of_the_kitty_protocol_have_the_same_names(data: str, key: str) -> None:
    assert heard(data) == [key]
    assert normal(key) == (key,)


@given(st.text(max_size=20))
def test_no_name_of_a_key_stops_the_program(written: str) -> None:
    for key in normal(written):
        assert "," not in key and format_key(key)
        assert normal(key) in ((key,), ("ctrl+@", "ctrl+space"))
        assert isinstance(plain(key) and types(key), bool) and shown(key)


# The person's keys


def test_nothing_to_change_changes_nothing() -> None:
    assert check({}) == ({}, [])


def test_good_keys_are_taken_in_textuals_names() -> None:
    assert check({"canvas.pin": ("P", "ctrl+k"), "app.help": ("f9",), "canvas.polish": (";",)}) == (
        {"app.help": "f9", "canvas.pin": "P,ctrl+k", "canvas.polish": "semicolon"},
        [],
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("canvas.rediffus", "canvas.rediffuse"),
        ("canvas.send", "prompt.send"),
        ("pin", "canvas.pin"),
        ("APP.QUIT", None),
    ],
)
def test_an_unknown_id_is_reported_with_the_nearest(name: str, near: str | None) -> None:
    advice = f" (did you mean {near}?)" if near else ""
    assert check({name: ("z",)}) == ({}, [f"{name}: there is no such binding{advice}"])


def test_a_key_that_does_not_exist_is_reported_and_the_good_ones_are_taken() -> None:
    taken, said = check({"canvas.pin": ("ctrl+mouse", "P"), "canvas.fork": ("nokey",)})
    assert taken == {"canvas.pin": "P"}
    assert said == [
        "canvas.pin: no terminal sends 'ctrl+mouse'; not used",
        "canvas.fork: no terminal sends 'nokey'; not used",
    ]


def test_a_key_of_another_command_is_refused() -> None:
    assert problems(canvas__pin="r") == ["canvas.pin: r is already the key of canvas.rediffuse; canvas.pin keeps p"]
    assert problems(canvas__left="r") == [
        "canvas.left: r is already the key of canvas.rediffuse; canvas.left keeps left"
    ]
    assert problems(canvas__fork="?") == ["canvas.fork: ? is already the key of app.help; canvas.fork keeps f"]
    assert problems(app__help="x") == ["app.help: x is already the key of canvas.polish; app.help keeps f1, ?"]
    assert problems(canvas__pin="ctrl+c") == [
        "canvas.pin: ctrl+c is already the key of app.interrupt; canvas.pin keeps p"
    ]


def test_two_commands_that_want_one_key_do_not_both_get_it() -> None:
    assert check({"canvas.fork": ("z",), "canvas.pin": ("z",)}) == (
        {"canvas.pin": "z"},
        ["canvas.fork: z is already the key of canvas.pin; canvas.fork keeps f"],
    )


def test_one_key_may_mean_different_things_in_different_places() -> None:
    assert problems(transcript__raw="r", sessions__open="m") == []


def test_commands_may_swap_their_keys() -> None:
    assert check({"canvas.pin": ("r",), "canvas.rediffuse": ("p",)}) == (
        {"canvas.rediffuse": "p", "canvas.pin": "r"},
        [],
    )


def test_a_refusal_that_gives_a_key_back_is_followed_through() -> None:
    taken, said = check({"canvas.pin": ("r",), "canvas.rediffuse": ("f",), "canvas.polish": ("p",)})
    assert taken == {}  # f stays with fork, so r with re-diffuse, so p with pin, so x with polish
    assert [line.partition(":")[0] for line in said] == ["canvas.rediffuse", "canvas.pin", "canvas.polish"]


def test_keys_that_write_are_kept_for_writing() -> None:
    assert problems(app__quit="q") == ["app.quit: q is needed for typing text; not used"]
    assert problems(app__palette="enter") == ["app.palette: enter is needed for typing text; not used"]
    assert problems(prompt__send="s") == ["prompt.send: s is needed for typing text; not used"]
    assert problems(prompt__send=("enter", "ctrl+s")) == []
    assert problems(canvas__pin="z") == []


@given(
    st.dictionaries(
        st.sampled_from([*sorted(ids()), "canvas.nothing"]),
        st.lists(
            st.sampled_from([*sorted({key for command in ALL for key in command.keys}), "z", "g", "ctrl+t", "nokey"]),
            min_size=1,
            max_size=3,
        ).map(tuple),
        max_size=8,
    )
)
@settings(deadline=None)
def test_whatever_is_remapped_every_command_keeps_a_key_of_its_own(overrides: dict[str, tuple[str, ...]]) -> None:
    taken, said = check(overrides)
    refused = {line.partition(":")[0] for line in said}
    assert taken.keys() <= overrides.keys() <= taken.keys() | refused
    for contexts in (("canvas", "steering"), ("transcript",), ("prompt",), ("alternatives",), ("sessions",)):
        commands = [command for context in (*contexts, "chat", "app") for command in COMMANDS[context]]
        keys = Counter(key for command in commands for key in keymap.keys_of(command, taken))
        assert [key for key, count in keys.items() if count > 1 and (key, contexts) != ("tab", ("prompt",))] == []


# In Textual


class Part(Static, can_focus=True):
    """A canvas that records its actions."""

    BINDINGS = [*bindings("canvas"), *bindings("steering")]  # noqa: RUF012
    done: list[str]

    def on_mount(self) -> None:
        self.done = []

    def action_move(self, where: str, select: bool = False) -> None:
        self.done.append(f"{'select' if select else 'move'} {where}")

    def action_pin(self) -> None:
        self.done.append("pin")

    def action_rediffuse(self) -> None:
        self.done.append("re-diffuse")

    def action_strength(self, by: float) -> None:
        self.done.append(f"{by:+}")

    def action_scrub(self, by: int) -> None:
        self.done.append(f"scrub {by:+}")


class Bound(App[None]):
    BINDINGS = bindings("app")
    helped = 0

    def compose(self) -> ComposeResult:
        yield Part()
        yield TextArea()

    def action_help(self) -> None:
        self.helped += 1


async def pressed(overrides: dict[str, tuple[str, ...]], keys: Iterable[str]) -> tuple[list[str], Bound]:
    app = Bound()
    taken, said = check(overrides)
    assert said == []
    async with app.run_test() as pilot:
        app.set_keymap(taken)
        app.query_one(Part).focus()
        await pilot.press(*keys)
        return app.query_one(Part).done, app


async def test_keys_run_their_actions_with_their_arguments() -> None:
    keys = ["left", "shift+left", "ctrl+right", "greater_than_sign", "pageup", "p", "r", "plus", "minus"]
    done, app = await pressed({}, [*keys, "left_square_bracket", "question_mark", "f1"])
    assert done == [
        "move left", "select left", "move word_right", "select word_right", "move page_up", "pin", "re-diffuse", "+0.1",
        "-0.1", "scrub -1",
    ]  # fmt: skip
    assert app.helped == 2


async def test_swapped_and_added_keys_work_in_textual() -> None:
    overrides = {"canvas.pin": ("r",), "canvas.rediffuse": ("p", ";"), "app.help": ("f9", "question_mark")}
    done, app = await pressed(overrides, ["r", "p", "semicolon", "f1", "f9", "question_mark"])
    assert done == ["pin", "re-diffuse", "re-diffuse"]
    assert app.helped == 2


async def test_a_question_mark_can_be_typed_in_the_prompt() -> None:
    app = Bound()
    async with app.run_test() as pilot:
        app.query_one(TextArea).focus()
        await pilot.press("question_mark", "f1")
        assert (app.query_one(TextArea).text, app.helped) == ("?", 1)
