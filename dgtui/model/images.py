"""Images for a prompt: decodes a file to pixels, and prepares pixels for the checkpoint's vision tower.

`open_picture` needs no model: a bad file is rejected before one is loaded. `ImageReader` uses transformers' own
Gemma 4 image processor, built from known keys of the checkpoint's JSON: no class is looked up by name, and no code of
the checkpoint is run.
"""

import hashlib
import math
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from dgtui.diffusion.image import Image
from dgtui.errors import CorruptCheckpoint, ImageRefused, ModelBlind, reason
from dgtui.model.catalog import EMBEDDED, REAL, Checkpoint
from dgtui.model.shards import read_json, shown

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The supported formats. Pillow's others are rare, or run external programs."""
MOST_BYTES: Final = 2**26
"""The largest file size, in bytes."""
MOST_PIXELS: Final = 2**26
"""The most pixels of an image: 67 million. The model uses less than a million of them."""

_WARNINGS: Final = Lock()  # warning filters are shared by all threads
_CONFIGS: Final = ("processor_config.json", "preprocessor_config.json")
_KINDS: Final = {"Gemma4ImageProcessor", "Gemma4ImageProcessorFast", "Gemma4ImageProcessorPil"}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image file."""

    name: str
    """The file name, sanitised."""
    digest: str
    """SHA-256 of the file's bytes."""
    pixels: Pillow.Image
    """RGB, upright; transparent parts are white."""


def open_picture(path: Path, digest: str = "") -> Picture:
    """Reads and decodes an image file.

    Args:
        path: The file.
        digest: The expected digest; empty accepts any.

    Raises:
        ImageRefused: It cannot be read, is not an image in `FORMATS`, is damaged, animated or too large, or its digest
            differs.
    """
    name = shown(path)
    data = _bytes_of(path, name)
    own = hashlib.sha256(data).hexdigest()
    if digest not in ("", own):
        raise ImageRefused(f"{name} has changed since it was sent")
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about odd files are of no use to a user
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(BytesIO(data), formats=FORMATS) as file:
                if math.prod(file.size) > MOST_PIXELS:
                    raise _too_large(name, f"{file.width:,} × {file.height:,} pixels")
                # The second picture of an MPO, which cameras write as JPEG, is another view of the first one
                if getattr(file, "is_animated", False) and file.format != "MPO":
                    raise ImageRefused(f"{name} contains several images", hint="save one of them as a PNG file")
                file.load()
                pixels = _on_white(ImageOps.exif_transpose(file))
    except ImageRefused:
        raise
    except UnidentifiedImageError:
        raise ImageRefused(f"{name} is not an image", hint=f"supported formats: {', '.join(FORMATS)}") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning, MemoryError):
        raise _too_large(name, "it has too many pixels for the memory") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise ImageRefused(f"{name} is damaged: {shown(error)}") from error
    return Picture(name, own, pixels)


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block for ever
            raise ImageRefused(f"{name} is not a file")
        if status.st_size > MOST_BYTES:
            raise _too_large(name, f"{status.st_size:,} bytes")
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # the latter: a NUL in the name
        raise ImageRefused(f"{name} cannot be read: {reason(error)}") from error


def _too_large(name: str, size: str) -> ImageRefused:
    return ImageRefused(f"{name} is too large: {size}", hint="scale it down: the model does not use this much detail")


def _on_white(image: Pillow.Image) -> Pillow.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip its values at 255
        values = np.asarray(image).astype(np.uint16) >> 8
        return Pillow.fromarray(values.astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class ImageReader:
    """The image processor of one checkpoint. Safe to use from several threads."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """For `load`. Raises `ValueError` or `TypeError` for settings that the processor rejects."""
        from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

        self._processor: Any = Gemma4ImageProcessorPil(**settings)

    @classmethod
    def load(cls, folder: Path, vision: Any) -> "ImageReader | None":
        """From `processor_config.json` or `preprocessor_config.json`; None if there is neither.

        Args:
            folder: The checkpoint's folder.
            vision: The config of its vision tower.

        Raises:
            CorruptCheckpoint: The file cannot be used, or belongs to another vision tower.
        """
        for file in _CONFIGS:
            if not (folder / file).exists():
                continue
            config = read_json(folder / file)
            own = config.get("image_processor", config)
            if not isinstance(own, dict) or own.get("image_processor_type") not in _KINDS:
                continue
            try:
                reader = cls(_known(own))
            except (ValueError, TypeError) as error:
                raise CorruptCheckpoint(
                    f"{file} cannot be used: {shown(error)}", hint="download the file again"
                ) from error
            for size in ("patch_size", "pooling_kernel_size"):
                if getattr(reader._processor, size) != getattr(vision, size):
                    raise CorruptCheckpoint(
                        f"{file} and config.json have different values of {size}", hint="download the checkpoint again"
                    )
            return reader
        return None

    def read(self, picture: Picture) -> Image:
        """A picture as the model's input. Raises `ImageRefused` if it is too narrow."""
        try:
            found = self._processor(picture.pixels, return_tensors="np")
        except ValueError as error:
            raise ImageRefused(f"{picture.name} cannot be prepared for the model: {shown(error)}") from error
        return Image(
            patches=np.array(found["pixel_values"][0], dtype=np.float32),
            positions=np.array(found["image_position_ids"][0], dtype=np.int32),
            tokens=int(found["num_soft_tokens_per_image"][0]),
        )


def seeing(reader: ImageReader | None, checkpoint: Checkpoint | None) -> ImageReader:
    """The reader. Raises `ModelBlind` if there is none, and says how to get one. `checkpoint` is None for a server."""
    if reader is not None:
        return reader
    if checkpoint is None:
        raise ModelBlind("images cannot be sent to a model on a server", hint="load its checkpoint on this machine")
    name = shown(checkpoint.name)
    if checkpoint.source == EMBEDDED:
        raise ModelBlind("the embedded model cannot read images", hint=f"use one that can: --model {REAL}")
    if any((checkpoint.path / file).exists() for file in _CONFIGS):
        raise ModelBlind(
            f"{name} cannot read images: its vision tower was not loaded, or its image processor is not supported",
            hint="load it with --vision",
        )
    raise ModelBlind(f"{name} cannot read images: it has no {_CONFIGS[0]}", hint="download the whole checkpoint again")


def _known(config: dict[str, Any]) -> dict[str, Any]:
    """A processor's settings, from the known keys. Raises `ValueError` for invalid values."""
    found = {key: config[key] for key in _FITTING if config.get(key) is not None}
    for key, value in found.items():
        if not _FITTING[key](value):
            raise ValueError(f"{key} is {value!r}")
    return found


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= 4096


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(channel) for channel in value)


def _is_filter(value: object) -> bool:
    return type(value) is int and value in {*Pillow.Resampling}


_FITTING: Final[dict[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), _is_switch),
    **dict.fromkeys(("patch_size", "max_soft_tokens", "pooling_kernel_size"), _is_size),
    **dict.fromkeys(("image_mean", "image_std"), _is_colour),
    "rescale_factor": _is_number,
    "resample": _is_filter,
}
"""The keys that are used from a processor's config, and their valid values."""
