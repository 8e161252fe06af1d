"""Feeds damaged files and answers to what reads them. Each reader may refuse an input, and nothing else.

    PYTHONPATH=. python scripts/fuzz.py TARGET [--seconds 600] [--seed 1]
    PYTHONPATH=. python scripts/fuzz.py --list

With the package atheris (libFuzzer), new inputs are chosen by the code that they reach. Without it, valid inputs are
changed at random. An input that raises anything but a `DgtuiError` is printed, and the exit code is 1.
"""

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

try:
    import atheris
except ImportError:
    atheris = None


@contextmanager
def instrumented() -> Iterator[None]:
    """Modules that are imported in this block report the code that an input reaches."""
    if atheris is None:
        yield
        return
    with atheris.instrument_imports(include=["dgtui.session", "dgtui.document", "dgtui.config", "dgtui.rules",
                                             "dgtui.tui.theme_file", "dgtui.tui.keymap", "dgtui.tui.key_names",
                                             "dgtui.model.gguf_header", "dgtui.model.gguf_file", "dgtui.model.shards",
                                             "dgtui.server", "dgtui.mistakes"]):  # fmt: skip
        yield


with instrumented():
    import httpx

    from dgtui import config
    from dgtui.document import journal
    from dgtui.errors import DgtuiError
    from dgtui.model import gguf_file, gguf_header, shards
    from dgtui.server import probe
    from dgtui.server.client import Client
    from dgtui.session import recording
    from dgtui.session.export import to_json, to_markdown
    from dgtui.session.records import Attachment, TextFile
    from dgtui.session.run_pack import Contents
    from dgtui.session.run_schema import Malformed
    from dgtui.session.store import Store, Turn
    from dgtui.session.timeline import pack_timeline, unpack_timeline
    from dgtui.tui import keymap
    from dgtui.tui.theme_file import load_theme

Target = Callable[[bytes], None]


class Targets:
    """The readers, by name. `seeds` holds valid inputs of each."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "input"
        self.folder = folder
        self._history = b""
        self._parts: list[Any] = []
        self._server: list[bytes] = []
        self._client: Client | None = None

    def names(self) -> list[str]:
        return [name.removeprefix("read_") for name in dir(self) if name.startswith("read_")]

    def put(self, data: bytes, suffix: str = "") -> Path:
        path = self.file.with_suffix(suffix)
        path.write_bytes(data)
        return path

    def seeds(self, name: str) -> list[bytes]:
        found: list[bytes] = getattr(self, f"seeds_{name}")()
        return found

    # Each reader with its valid inputs

    def seeds_recording(self) -> list[bytes]:
        import recorded

        return [
            recorded.write(self.folder / "run.dgtui", log).read_bytes() for log in (recorded.run(), recorded.ended())
        ]

    def read_recording(self, data: bytes) -> None:
        # Most damage is found by the checksum; it is left out, so that the checks behind it are reached
        recording._digest = lambda arrays, facts: _Any()  # type: ignore[assignment,return-value]
        recording.load(self.put(data))

    def seeds_parts(self) -> list[bytes]:
        values = (
            b"=[]",
            b"={}",
            b"=-1",
            b"=1e999",
            b'="x"',
            b"=null",
            b"=true",
            b"=3",
            b"!\xff\xff\xff\xff",
            b"<",
            b">",
            b"-",
        )
        return [bytes((place,)) + value for place in range(120) for value in values]

    def read_parts(self, data: bytes) -> None:
        """A valid recording with other arrays and facts: per line a place, an operation and a value."""
        import numpy as np
        import recorded

        if not self._parts:
            log = recorded.run()
            recorded.write(self.file, log)
            arrays, metadata = recording._read(self.file)
            self._parts = [arrays, metadata["json"]]
        arrays, facts = dict(self._parts[0]), json.loads(self._parts[1])
        for edit in data.split(b"\n\0"):
            places = [*_places(facts)]
            if len(edit) < 2:
                continue
            operation, value = edit[1:2], edit[2:]
            if operation in b"=-":
                holder, key = places[edit[0] % len(places)]
                with suppress(ValueError, RecursionError):
                    if operation == b"=":
                        holder[key] = json.loads(value)
                    else:
                        del holder[key]
                continue
            name = sorted(arrays)[edit[0] % len(arrays)]
            old = arrays[name]
            if operation == b"!":
                new = np.frombuffer(value[: old.nbytes] + old.tobytes()[len(value) :], old.dtype).reshape(old.shape)
                arrays[name] = new.copy()
            else:
                arrays[name] = old[1:] if operation == b"<" else np.concatenate((old, old[:1]))
        try:
            read = recording._recording(Contents(arrays), facts)
        except (ValueError, RecursionError, OverflowError):  # as in `recording.load`
            return
        recording.save(self.file, read)
        pack_timeline(read.log)

    def seeds_history(self) -> list[bytes]:
        import recorded

        path = self.folder / "seed.db"
        image, file = Attachment("/a.png", "ab" * 32), TextFile("b.txt", "words")
        with closing(Store(path)) as store:
            name = store.create("model", "system", {"temperature": 0.5})
            store.append(name, Turn("user", "hello fox", images=(image,), files=(file,)))
            turn = Turn("model", "a river", token_ids=(1, 2), thought="hm", seed=3, steps=4)
            store.keep_timeline(store.append(name, turn), pack_timeline(recorded.ended()))
        return [path.read_bytes()]

    def read_history(self, data: bytes, edits: bytes = b"") -> None:
        """Reads a history and adds to it. `edits`: see `read_cells`."""
        for name in self.folder.glob("input.db*"):
            name.unlink()
        path = self.put(data, ".db")
        if edits:
            self.edit(path, edits)
        with closing(Store(path)) as store:
            for found in store.conversations():
                turns = store.turns(found.id)
                to_markdown(found, turns), json.dumps(to_json(found, turns))
                for turn in turns:
                    self.read_packed(store.timeline(turn.id))
                store.append(found.id, Turn("user", "more"))
                store.rename(found.id, "river")
                store.supersede(found.id, store.turn_ids(found.id)[-1:])
            store.search("river")
            store.search("%")
            store.delete(store.create("m"))

    def seeds_cells(self) -> list[bytes]:
        values = (b"t", b"t[]", b't[["b.txt", "cd"]]', b"t{}", b"i7654321", b"i\xff\xff\xff\xff\xff\xff\xff\x7f", b"n",
                  b"b1234", b"s\xff")  # fmt: skip
        return [bytes((table, column)) + value for table in range(4) for column in range(18) for value in values]

    def read_cells(self, data: bytes) -> None:
        """A valid history with other values in some cells: per line a table, a column, a type and the value."""
        self._history = self._history or self.seeds_history()[0]
        self.read_history(self._history, data)

    def edit(self, path: Path, data: bytes) -> None:
        """Changes cells as far as the schema lets them."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("fold", 1, str)
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for edit in data.split(b"\n\0"):
                if len(edit) < 3:
                    continue
                table = ("conversations", "turns", "timelines", "texts")[edit[0] % 4]
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info ({table})")]
                values: dict[bytes, Any] = {
                    b"t": edit[3:].decode("utf-8", "replace"),
                    b"i": int.from_bytes(edit[3:11], "little", signed=True),
                    b"n": None,
                }
                value = values.get(edit[2:3], edit[3:])
                kind = "CAST (? AS TEXT)" if edit[2:3] == b"s" else "?"  # such text may not be UTF-8
                with suppress(sqlite3.Error):
                    connection.execute(f"UPDATE {table} SET {columns[edit[1] % len(columns)]} = {kind}", (value,))

    def seeds_packed(self) -> list[bytes]:
        import recorded

        return [zlib.decompress(pack_timeline(log)) for log in (recorded.run(), recorded.ended())]

    def read_packed(self, data: bytes) -> None:
        """The steps of a stored reply, as they are and compressed."""
        for packed in (data, zlib.compress(data, 0)):
            with suppress(Malformed):
                unpack_timeline(packed).frames()

    def seeds_config(self) -> list[bytes]:
        return [
            b'[model]\nname = "x"\n[sampler]\nmax_steps = 3\nt_max = 0.5\n[screen]\ntheme = "mine"\nmax_fps = 30\n'
            b'[history]\nenabled = true\npath = "~/h.db"\n[keys]\n"canvas.pin" = ["p", "f2"]\n'
        ]

    def read_config(self, data: bytes) -> None:
        settings, problems = config.load(self.put(data), env={}, binding_ids=keymap.ids())
        [str(problem) for problem in problems]
        keymap.check(settings.keys.bindings)

    def seeds_theme(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted((ROOT / "themes").glob("*.toml"))]

    def read_theme(self, data: bytes) -> None:
        theme, problems = load_theme(self.put(data, ".toml"))
        [str(problem) for problem in problems]
        if theme is not None:
            theme.textual()

    def seeds_keymap(self) -> list[bytes]:
        return [b"canvas.pin\0p\0ctrl+shift+x", "prompt.send\0f2\0alt+я\0question_mark".encode()]

    def read_keymap(self, data: bytes) -> None:
        name, *keys = data.decode("utf-8", "replace").split("\0")
        keymap.check({name: tuple(keys), "canvas.pin": tuple(keys)})

    def seeds_journal(self) -> list[bytes]:
        from dgtui.document.undo import Edit

        path = self.put(b"one two")
        written = journal.Journal(path, b"one two")
        written.record(Edit(0, b"one", b"1"), Edit(2, b"two", b"2"))
        written.flush()
        (file,) = journal._folder().iterdir()
        data = file.read_bytes()
        written.close()
        return [data]

    def read_journal(self, data: bytes) -> None:
        path = self.file
        file = journal._folder() / f"{journal._key(path)}-1.journal"
        file.write_bytes(data)
        journal.find(path)

    def seeds_gguf(self) -> list[bytes]:
        import gguf
        import numpy as np

        writer = gguf.GGUFWriter(self.folder / "seed.gguf", gguf_header.ARCHITECTURE)
        writer.add_uint32("split.count", 1)
        writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
        writer.add_float32("x.scale", 0.5)
        writer.add_tensor("blk.0.attn_q.weight", np.ones((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return [(self.folder / "seed.gguf").read_bytes()]

    def read_gguf(self, data: bytes) -> None:
        gguf_header.read_start(data)
        file = gguf_file.GgufFile(self.put(data, ".gguf"))
        gguf_file.config_of(file)
        gguf_file.generation_of(file)

    def seeds_safetensors(self) -> list[bytes]:
        header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                             "__metadata__": {"format": "pt"}}).encode()  # fmt: skip
        return [header, len(header).to_bytes(8, "little") + header + b"\0" * 16]

    def read_safetensors(self, data: bytes) -> None:
        """The file, and a file with this header."""
        for content in (data, len(data).to_bytes(8, "little") + data + b"\0" * 16):
            with suppress(DgtuiError):
                shards.read_shard(self.put(content, ".safetensors"))

    def seeds_server(self) -> list[bytes]:
        models = b'{"data": [{"id": "m", "max_model_len": 4096}]}'
        wrong = b'{"error": {"message": "canvas must hold exactly 256 ids"}}'
        ids = b'{"error": {"message": "ids must be in [0, 262144)"}}'
        return [b"\n\0".join([b"200" + models, b"400" + wrong, b"400" + ids, b'200{"version": "0.32"}'])]

    def read_server(self, data: bytes) -> None:
        self._server = data.split(b"\n\0")
        if self._client is None:
            self._client = Client("http://127.0.0.1:9", transport=httpx.MockTransport(self._answer))
            self._client.first_wait = 0.0
        probe.recognise(self._client)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self._server.pop(0) if self._server else b"200"
        status = answer[:3].decode("ascii", "replace")
        code = int(status) if status.isascii() and status.isdigit() and 200 <= int(status) < 600 else 200
        return httpx.Response(code, headers={"retry-after": answer[3:4]}, content=answer[3:])


def _places(facts: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested JSON: the object or list, and the key or index."""
    keys = facts if isinstance(facts, dict) else range(len(facts)) if isinstance(facts, list) else ()
    for key in keys:
        yield facts, key
        yield from _places(facts[key])


class _Any:
    """Equal to everything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def guarded(target: Target) -> Target:
    """The target, with refusals as what they are: fine."""

    def run(data: bytes) -> None:
        with suppress(DgtuiError):
            target(data)

    return run


def changed(data: bytes, chance: random.Random) -> bytes:
    """A valid input with a few changes."""
    new = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(new) + 1)
        size = chance.choice((1, 1, 2, 4, 8, 64))
        piece = bytes(chance.choice((0, 0xFF, 0x7F, chance.randrange(256))) for _ in range(size))
        match chance.randrange(5):
            case 0:
                new[at : at + size] = piece
            case 1:
                new[at:at] = piece
            case 2:
                del new[at : at + size]
            case 3:
                start = chance.randrange(len(new) + 1)
                new[at:at] = new[start : start + size] * chance.choice((1, 2, 5000))
            case _:
                del new[at:]
    return bytes(new)


def at_random(run: Target, seeds: list[bytes], seconds: float, seed: int) -> int:
    """Runs changed inputs for some time. Returns how many."""
    chance, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = changed(chance.choice(seeds), chance)
        try:
            run(data)
        except Exception:
            print(f"input: {data!r}"[:4000], file=sys.stderr)
            raise
        count += 1
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", action="store_true", help="without atheris")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    for variable in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        os.environ[variable] = str(folder)
    targets = Targets(folder)
    if args.list or args.target not in targets.names():
        print("\n".join(targets.names()))
        return 0 if args.list else 2
    run, seeds = guarded(getattr(targets, f"read_{args.target}")), targets.seeds(args.target)
    for data in seeds:
        run(data)
    if atheris is None or args.random:
        count = at_random(run, seeds, args.seconds, args.seed)
        print(f"{args.target}: {count} inputs, none raised anything but a refusal")
        return 0
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    options: list[Any] = [
        f"-max_total_time={args.seconds:.0f}",
        f"-seed={args.seed}",
        "-len_control=0",
        f"-max_len={max(20_000, 2 * max(map(len, seeds)))}",
        "-rss_limit_mb=0",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options, f"-artifact_prefix={folder}/"], run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
