"""The images and kept text files of the next message, and earlier images that are no longer available.

An image is read when it is attached and kept in the form that the current model takes. A conversation stores its path
and a digest, so a missing or changed file is reported when the prompt is built again. A text file is read when its
message is sent, unless the message was sent before: it keeps the text that the model saw then.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from textual.message import Message
from textual.widgets import Static

from dgtui.backend import Backend
from dgtui.diffusion.image import Image
from dgtui.errors import DgtuiError
from dgtui.session.store import Attachment, TextFile
from dgtui.text import byte_size, sanitize


def file_name(path: Path | str) -> str:
    """The sanitised name of the file, without its folder."""
    return sanitize(Path(path).name, newlines=False, tabs="replace")


class Attached(Static):
    """A line that lists the attached images, and one for each lost image; hidden if there are none."""

    DEFAULT_CSS = """
    Attached { display: none; height: auto; max-height: 4; padding: 0 1; color: $foreground-muted; }
    Attached.any { display: block; }
    """

    class Read(Message):
        """All waiting files were read. `problems` are the files that could not be attached since the last message."""

        def __init__(self, problems: dict[Path, DgtuiError]) -> None:
            super().__init__()
            self.problems = problems

    def __init__(self, backend: Backend, waiting: Iterable[Path] = (), *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._backend = backend
        self.images: list[Attachment] = []
        """The images of the next message."""
        self.kept: tuple[TextFile, ...] = ()
        """Text files of a message that was sent before and is back in the prompt."""
        self.waiting = [path.absolute() for path in waiting]
        """Files that will be attached once a model is loaded and they are read."""
        self.lost: dict[Attachment, str] = {}
        """Images of the conversation that the model cannot see, with the reason."""
        self._earlier: list[Attachment] = []
        """Images of the conversation that are still to be read."""
        self._seen: dict[Attachment, Image] = {}
        self._problems: dict[Path, DgtuiError] = {}

    def on_mount(self) -> None:
        self._draw()

    @property
    def reading(self) -> bool:
        """Whether files wait to be read; `Read` follows when all of them are."""
        return bool(self.waiting or self._earlier)

    def attach(self, path: Path) -> None:
        """Adds an image to the next message once it is read."""
        self.waiting.append(path.absolute())
        self._read_on()

    def conversation(self, images: Iterable[Attachment]) -> None:
        """Sets the images of another conversation, to report lost ones early."""
        self.lost = {}
        self._earlier = [image for image in images if image not in self._seen]
        self._read_on()

    def model_changed(self, images: Iterable[Attachment]) -> None:
        """Reads all images again for the model that is now loaded."""
        self.waiting = [*(Path(image.path) for image in self.images), *self.waiting]
        self.images, self._seen = [], {}
        self.conversation(images)

    def _read_on(self) -> None:
        self._draw()
        if self.reading and self._backend.facts is not None:
            self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        """Reads the files one by one in a thread: a photograph takes a second."""
        while self._earlier:
            image = self._earlier[0]
            result = await asyncio.to_thread(self._look, Path(image.path), image.digest)
            if self._backend.facts is None:  # another model is being loaded; all images will be read again for it
                return
            self._note(image, result)
            self._earlier = self._earlier[1:]
        while self.waiting:
            path = self.waiting[0]
            result = await asyncio.to_thread(self._look, path)
            if self._backend.facts is None:
                return
            if path not in self.waiting:  # removed in the meantime
                continue
            self.waiting.remove(path)
            if isinstance(result, DgtuiError):
                self._problems[path] = result
            else:
                self.images.append(Attachment(str(path), result[0]))
                self._seen[self.images[-1]] = result[1]
            self._draw()
        problems, self._problems = self._problems, {}
        self.post_message(self.Read(problems))

    def _look(self, path: Path, digest: str = "") -> tuple[str, Image] | DgtuiError:
        try:
            return self._backend.see(path, digest)
        except DgtuiError as error:
            return error

    def _note(self, image: Attachment, result: tuple[str, Image] | DgtuiError) -> None:
        if isinstance(result, DgtuiError):
            self.lost[image] = result.message
        else:
            self.lost.pop(image, None)
            self._seen[image] = result[1]
        self._draw()

    def take(self) -> tuple[Attachment, ...]:
        """Returns the attached images for a message that is sent now, and detaches them."""
        taken = tuple(self.images)
        self.drop()
        return taken

    def put_back(self, images: Iterable[Attachment]) -> None:
        """Attaches the images of a message that could not be sent."""
        self.images = [*images, *self.images]
        self._draw()

    def keep(self, files: Iterable[TextFile]) -> None:
        """Keeps these text files, and no others, for the message in the prompt."""
        self.kept = (*files,)
        self._draw()

    def drop(self) -> None:
        """Detaches all images, and keeps no text file: they are read again."""
        self.images, self.waiting, self.kept = [], [], ()
        self._draw()

    def see(self, image: Attachment) -> Image | None:
        """The model's input for an image of the conversation. If it is lost, None, and the line says why."""
        if image not in self._seen:
            self._note(image, self._look(Path(image.path), image.digest))
        return self._seen.get(image)

    def says(self) -> str:
        """A sentence about the attached images, or an empty string."""
        state = "being read" if self._backend.facts else "when the model is loaded"
        parts = [f"{file_name(path)} ({state})" for path in self.waiting]
        for image in reversed(self.images):
            tokens = f" ({self._seen[image].tokens} tokens)" if image in self._seen else ""
            parts.insert(0, f"{file_name(image.path)}{tokens}")
        return f"with the next message: {', '.join(parts)}; use /image - to remove it" if parts else ""

    def _draw(self) -> None:
        lines = [f"not shown to the model: {sanitize(why, newlines=False)}" for why in self.lost.values()]
        if self.kept:
            names = ", ".join(f"{file_name(file.path)} ({byte_size(file.size)})" for file in self.kept)
            lines.append(f"as sent before: {names}; /image - reads {'it' if len(self.kept) == 1 else 'them'} again")
        if says := self.says():
            lines.append(says)
        self.set_class(bool(lines), "any")
        self.update("\n".join(lines))
