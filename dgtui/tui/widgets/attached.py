"""The images of the next message, and those of earlier ones that the model cannot be shown any more.

An image is read when it is attached, and kept as the present model takes it; a conversation stores where its file is
and a digest, so that a file that has gone or changed is noticed, and said, when the prompt is made again.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from textual.message import Message
from textual.widgets import Static

from dgtui.backend import Backend
from dgtui.diffusion.image import Image
from dgtui.errors import DgtuiError
from dgtui.session.store import Attachment
from dgtui.text import sanitize


def image_name(path: Path | str) -> str:
    """The file's own name, fit to be shown."""
    return sanitize(Path(path).name, newlines=False, tabs="replace")


class Attached(Static):
    """A line for what is attached and one for each image that is lost; takes no room where there are none."""

    DEFAULT_CSS = """
    Attached { display: none; height: auto; max-height: 4; padding: 0 1; color: $foreground-muted; }
    Attached.any { display: block; }
    """

    class Read(Message):
        """Nothing waits to be read any more. `problems` are the files that could not be attached since the last one."""

        def __init__(self, problems: list[DgtuiError]) -> None:
            super().__init__()
            self.problems = problems

    def __init__(self, backend: Backend, waiting: Iterable[Path] = (), *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._backend = backend
        self.images: list[Attachment] = []
        "of the next message"
        self.waiting = [path.absolute() for path in waiting]
        "files that are attached when a model is loaded and they are read"
        self.lost: dict[Attachment, str] = {}
        "images of the conversation that the model is not shown, and why"
        self._earlier: list[Attachment] = []
        "images of the conversation that are to be read"
        self._seen: dict[Attachment, Image] = {}
        self._problems: list[DgtuiError] = []

    def on_mount(self) -> None:
        self._draw()

    @property
    def reading(self) -> bool:
        """Something waits to be read; `Read` follows when all of it is."""
        return bool(self.waiting or self._earlier)

    def attach(self, path: Path) -> None:
        """Adds an image to the next message, once it is read."""
        self.waiting.append(path.absolute())
        self._read_on()

    def conversation(self, images: Iterable[Attachment]) -> None:
        """Another conversation is shown: which of its images the model cannot be shown is said early."""
        self.lost = {}
        self._earlier = [image for image in images if image not in self._seen]
        self._read_on()

    def model_changed(self, images: Iterable[Attachment]) -> None:
        """Reads everything again, for the model that is loaded now."""
        self.waiting = [*(Path(image.path) for image in self.images), *self.waiting]
        self.images, self._seen = [], {}
        self.conversation(images)

    def _read_on(self) -> None:
        self._draw()
        if self.reading and self._backend.facts is not None:
            self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        """Reads one file after another beside the screen: a photograph takes a second."""
        while self._earlier:
            image = self._earlier[0]
            found = await asyncio.to_thread(self._look, Path(image.path), image.digest)
            if self._backend.facts is None:  # another model is being loaded, for which all is read again
                return
            self._note(image, found)
            self._earlier = self._earlier[1:]
        while self.waiting:
            path = self.waiting[0]
            found = await asyncio.to_thread(self._look, path)
            if self._backend.facts is None:
                return
            if path not in self.waiting:  # dropped meanwhile
                continue
            self.waiting.remove(path)
            if isinstance(found, DgtuiError):
                self._problems.append(found)
            else:
                self.images.append(Attachment(str(path), found[0]))
                self._seen[self.images[-1]] = found[1]
            self._draw()
        problems, self._problems = self._problems, []
        self.post_message(self.Read(problems))

    def _look(self, path: Path, digest: str = "") -> tuple[str, Image] | DgtuiError:
        try:
            return self._backend.see(path, digest)
        except DgtuiError as error:
            return error

    def _note(self, image: Attachment, found: tuple[str, Image] | DgtuiError) -> None:
        if isinstance(found, DgtuiError):
            self.lost[image] = found.message
        else:
            self.lost.pop(image, None)
            self._seen[image] = found[1]
        self._draw()

    def take(self) -> tuple[Attachment, ...]:
        """What is attached, for a message that is sent now; nothing is attached any more."""
        taken = tuple(self.images)
        self.drop()
        return taken

    def put_back(self, images: Iterable[Attachment]) -> None:
        """Attaches the images of a message that came back."""
        self.images = [*images, *self.images]
        self._draw()

    def drop(self) -> None:
        """Attaches nothing."""
        self.images, self.waiting = [], []
        self._draw()

    def see(self, image: Attachment) -> Image | None:
        """What the model is given of an image of the conversation; None if it is lost, which is shown."""
        if image not in self._seen:
            self._note(image, self._look(Path(image.path), image.digest))
        return self._seen.get(image)

    def says(self) -> str:
        """What is attached, in a person's words; empty where nothing is."""
        until = "being read" if self._backend.facts else "when the model is loaded"
        parts = [f"{image_name(path)} ({until})" for path in self.waiting]
        for image in reversed(self.images):
            tokens = f" ({self._seen[image].tokens} tokens)" if image in self._seen else ""
            parts.insert(0, f"{image_name(image.path)}{tokens}")
        return f"with the next message: {', '.join(parts)}; /image - drops it" if parts else ""

    def _draw(self) -> None:
        lines = [f"not shown to the model: {sanitize(why, newlines=False)}" for why in self.lost.values()]
        if says := self.says():
            lines.append(says)
        self.set_class(bool(lines), "any")
        self.update("\n".join(lines))
