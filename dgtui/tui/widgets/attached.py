"""The images of the next message, and those of earlier ones that the model cannot be shown any more.

An image is read when it is attached, and kept as the present model takes it; a conversation stores where its file is
and a digest, so that a file that has gone or changed is noticed, and said, when the prompt is made again.
"""

from collections.abc import Iterable
from pathlib import Path

from textual.widgets import Static

from dgtui.diffusion.image import Image
from dgtui.errors import DgtuiError, ImageRefused
from dgtui.session.store import Attachment
from dgtui.text import sanitize
from dgtui.tui.backend import Backend


def image_name(path: Path | str) -> str:
    """The file's own name, fit to be shown."""
    return sanitize(Path(path).name, newlines=False, tabs="replace")


class Attached(Static):
    """A line for what is attached and one for each image that is lost; takes no room where there are none."""

    DEFAULT_CSS = """
    Attached { display: none; height: auto; max-height: 4; padding: 0 1; color: $foreground-muted; }
    Attached.any { display: block; }
    """

    def __init__(self, backend: Backend, waiting: Iterable[Path] = (), *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._backend = backend
        self.images: list[Attachment] = []
        "of the next message"
        self.waiting = [path.absolute() for path in waiting]
        "files that are attached when the model is loaded"
        self.lost: dict[Attachment, str] = {}
        "images of the conversation that the model is not shown, and why"
        self._seen: dict[Attachment, Image] = {}

    def on_mount(self) -> None:
        self._draw()

    def attach(self, path: Path) -> None:
        """Adds an image to the next message. Raises a `DgtuiError` if it cannot be read, or the model does not see."""
        if self._backend.facts is None:
            self.waiting.append(path.absolute())
        else:
            self._add(path.absolute())
        self._draw()

    def _add(self, path: Path) -> None:
        digest, image = self._backend.see(path)
        attachment = Attachment(str(path), digest)
        self._seen[attachment] = image
        self.images.append(attachment)

    def model_changed(self) -> list[DgtuiError]:
        """Reads again what is attached, for the model that is loaded now; what went wrong with some of it."""
        paths = [*(Path(image.path) for image in self.images), *self.waiting]
        self.images, self.waiting, self._seen, self.lost = [], [], {}, {}
        problems = []
        for path in paths:
            try:
                self._add(path)
            except DgtuiError as error:
                problems.append(error)
        self._draw()
        return problems

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

    def see(self, attachment: Attachment) -> Image | None:
        """What the model is given of an image of the conversation; None if it is lost, which is shown."""
        if attachment not in self._seen:
            try:
                self._seen[attachment] = self._read(attachment)
            except DgtuiError as error:
                self.lost[attachment] = error.message
                self._draw()
                return None
            if self.lost.pop(attachment, None):
                self._draw()
        return self._seen[attachment]

    def _read(self, attachment: Attachment) -> Image:
        digest, image = self._backend.see(Path(attachment.path))
        if attachment.digest not in ("", digest):
            raise ImageRefused(f"{image_name(attachment.path)} has changed since it was sent")
        return image

    def forget_lost(self) -> None:
        """Another conversation is shown."""
        self.lost = {}
        self._draw()

    def says(self) -> str:
        """What is attached, in a person's words; empty where nothing is."""
        parts = [f"{image_name(path)} (when the model is loaded)" for path in self.waiting]
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
