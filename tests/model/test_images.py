"""A picture goes to the model as transformers' own processor and `generate` would have it, and bad files go nowhere."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import PROCESSOR, generation_config, tiny_checkpoint
from PIL import Image as Pillow
from transformers import PreTrainedTokenizerFast
from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from dgtui.diffusion import engine
from dgtui.diffusion.events import Finished
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import BadJob, Job, SamplerSettings
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.errors import CorruptCheckpoint, ImageRefused, ModelBlind
from dgtui.message import Message
from dgtui.model import denoiser as denoiser_module
from dgtui.model import images as images_module
from dgtui.model.catalog import resolve
from dgtui.model.denoiser import TransformersDenoiser, _pieces
from dgtui.model.images import ImageReader, open_picture, seeing
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions

TOLERANCE = 1e-4
"""As in test_prefix: between a prompt read in pieces and one read at once."""
SETTINGS = SamplerSettings(steps=6, stability=2, confidence=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("seeing"), sees=True)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    model = load(resolve(str(folder)), LoadOptions(device="cpu"))
    with torch.no_grad(), torch.random.fork_rng():  # a tower with opinions, as the rest of the model has them
        torch.manual_seed(3)
        for weight in model.model.model.encoder.vision_tower.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.5)
    return model


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    """transformers' own, made without the parts for sound and video, which would need other packages."""

    try:
        from transformers import Gemma4Processor
    except ImportError as error:  # some versions import torchvision with it
        pytest.skip(str(error))

    class WithoutThose(Gemma4Processor):
        def check_argument_for_proper_class(self, name: str, argument: Any) -> None: ...

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    for name, sign in {"boi": "<|image>", "eoi": "<image|>", "image": "<|image|>", "boa": "x", "eoa": "x"}.items():
        setattr(tokenizer, f"{name}_token", sign)
    tokenizer.image_token_id = tokenizer.convert_tokens_to_ids("<|image|>")
    settings = {key: value for key, value in PROCESSOR["image_processor"].items() if key != "image_processor_type"}
    return WithoutThose(None, Gemma4ImageProcessorPil(**settings), tokenizer, None)


def painting(seed: int, width: int = 60, height: int = 40) -> Pillow.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Pillow.fromarray(noise)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def save(seed: int, width: int = 60, height: int = 40) -> Path:
        path = tmp_path / f"{seed}.png"
        painting(seed, width, height).save(path)
        return path

    return save


@pytest.fixture
def see(loaded: LoadedModel, file: Callable[..., Path]) -> Callable[..., Image]:
    return lambda *size: seeing(loaded.images, loaded.checkpoint).read(open_picture(file(*size)))


def theirs(processor: Any, parts: Sequence[Any], pictures: Sequence[Pillow.Image]) -> Any:
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": list(parts)}], tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=list(pictures), return_tensors="pt")


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def cold(loaded: LoadedModel) -> TransformersDenoiser:
    return TransformersDenoiser(loaded.model, frozenset({loaded.model.config.text_config.vocab_size}))


IMAGE = {"type": "image"}


# As transformers has it


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (5, 5), (300, 20)])
def test_ids_pixels_and_positions_are_those_of_transformers_processor(
    size: tuple[int, int], loaded: LoadedModel, processor: Any, see: Callable[..., Image]
) -> None:
    image = see(1, *size)
    ids = loaded.tokenizer.chat([Message("user", "What is this?", images=(image,))])
    wanted = theirs(processor, [IMAGE, text("What is this?")], [painting(1, *size)])
    assert ids == wanted["input_ids"][0].tolist()
    assert ids.count(loaded.model.config.image_token_id) == image.tokens
    np.testing.assert_array_equal(image.patches, wanted["pixel_values"][0].numpy())
    np.testing.assert_array_equal(image.positions, wanted["image_position_ids"][0].numpy())


def test_several_images_stand_in_their_order(loaded: LoadedModel, processor: Any, see: Callable[..., Image]) -> None:
    images = (see(1, 60, 40), see(2, 30, 30))
    ids = loaded.tokenizer.chat([Message("user", "Compare.", images=images)])
    wanted = theirs(processor, [IMAGE, IMAGE, text("Compare.")], [painting(1), painting(2, 30, 30)])
    assert ids == wanted["input_ids"][0].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_with_an_image_is_generate_token_for_token(
    seed: int, loaded: LoadedModel, see: Callable[..., Image]
) -> None:
    canvas, image = loaded.model.config.canvas_length, see(1)
    ids = loaded.tokenizer.chat([Message("user", "What is this?", images=(image,))])
    config = generation_config(
        max_new_tokens=2 * canvas,
        max_denoising_steps=SETTINGS.steps,
        sampler_config=EntropyBoundSamplerConfig(SETTINGS.entropy_bound),
        stability_threshold=SETTINGS.stability,
        confidence_threshold=SETTINGS.confidence,
        eos_token_id=[loaded.model.config.text_config.vocab_size],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = loaded.model.generate(
            torch.tensor([ids]),
            pixel_values=torch.tensor(image.patches[None]),
            image_position_ids=torch.tensor(image.positions[None], dtype=torch.long),
            mm_token_type_ids=(torch.tensor([ids]) == loaded.model.config.image_token_id).long(),
            generation_config=config,
        )
    job = Job("see", tuple(ids), seed, 2 * canvas, SETTINGS, images=(image,))
    *_, last = engine.run(ReferenceStepper(cold(loaded)), job)
    assert isinstance(last, Finished)
    assert last.token_ids[0].tolist() == out.sequences[0, len(ids) :].tolist()


def test_the_model_sees_which_image_it_is(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    """Same ids, other pixels: other logits, by far more than what a wrong sum would make."""
    canvas = torch.arange(10, 42)[None]
    found = []
    for image in (see(1), see(2)):
        ids = loaded.tokenizer.chat([Message("user", "What is this?", images=(image,))])
        denoiser = cold(loaded)
        denoiser.encode(ids, [image])
        found.append(denoiser.logits(canvas, None))
    assert (found[0] - found[1]).abs().max() > 100 * TOLERANCE


# In pieces, and again


@pytest.mark.parametrize("piece", [7, 64, 71, 100])
def test_a_prompt_read_in_pieces_is_one_read_at_once(
    piece: int, loaded: LoadedModel, see: Callable[..., Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = (see(1), see(2, 30, 30))
    ids = loaded.tokenizer.chat([Message("user", "Compare these two.", images=images)])
    canvas = torch.arange(10, 42)[None]
    whole, parted = cold(loaded), cold(loaded)
    whole.encode(ids, images)
    monkeypatch.setattr(denoiser_module, "PIECE", piece)
    parted.encode(ids, images)
    torch.testing.assert_close(parted.logits(canvas, None), whole.logits(canvas, None), rtol=0, atol=TOLERANCE)


def test_no_piece_ends_in_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoiser_module, "PIECE", 4)
    places = [1, 2, "a", "a", "a", 3, *["b"] * 6, 4, 5]
    assert [piece for _, piece in _pieces(places)] == [[1, 2], ["a", "a", "a", 3], ["b"] * 6, [4, 5]]
    assert [at for at, _ in _pieces(places)] == [0, 2, 6, 12]


def test_a_second_turn_reads_only_what_is_new(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    image, other = see(1), see(2)
    first = [Message("user", "What is this?", images=(image,))]
    later = [*first, Message("model", "A fox."), Message("user", "And this?", images=(other,))]
    begin, whole = loaded.tokenizer.chat(first), loaded.tokenizer.chat(later)
    shared = len(begin)
    warm, once = cold(loaded), cold(loaded)
    warm.encode(begin, [image])
    warm.encode(whole, [image, other])
    assert warm.prefix.encoded == len(whole) and whole[:shared] == begin
    once.encode(whole, [image, other])
    canvas = torch.arange(10, 42)[None]
    torch.testing.assert_close(warm.logits(canvas, None), once.logits(canvas, None), rtol=0, atol=TOLERANCE)


def test_equal_ids_with_another_image_are_read_again(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    image, other = see(1), see(2)
    ids = loaded.tokenizer.chat([Message("user", "What is this?", images=(image,))])
    warm, fresh = cold(loaded), cold(loaded)
    warm.encode(ids, [image])
    warm.encode(ids, [other])
    assert warm.prefix.encoded > len(ids) + image.tokens
    fresh.encode(ids, [other])
    canvas = torch.arange(10, 42)[None]
    torch.testing.assert_close(warm.logits(canvas, None), fresh.logits(canvas, None), rtol=0, atol=TOLERANCE)
    warm.encode(ids)  # the same ids as mere ids are another prefix too
    assert warm.prefix.ids == ids


def test_the_image_id_in_a_reply_is_no_image(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    image, sign = see(1), loaded.model.config.image_token_id
    turns = [
        Message("user", "Hello."),
        Message("model", "Hi.", token_ids=(sign, *loaded.tokenizer.encode("Hi."))),
        Message("user", "What is this?", images=(image,)),
    ]
    ids = loaded.tokenizer.chat(turns)
    assert ids.count(sign) == image.tokens
    denoiser = cold(loaded)
    denoiser.encode([*ids, sign, sign, 20], [image])  # and neither is one in a block that was written
    assert denoiser.prefix.ids[-3:] == [sign, sign, 20]


def test_a_prompt_without_places_for_its_images_is_refused(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    image = see(1)
    ids = loaded.tokenizer.chat([Message("user", "What is this?", images=(image,))])
    at = ids.index(loaded.model.config.image_token_id)
    for wrong in (ids[: at + 9], [20] * 200, ids[:at] + ids[at + 1 :]):
        with pytest.raises(BadJob, match="image 1 takes"):
            cold(loaded).encode(wrong, [image])
    with pytest.raises(BadJob, match="image 2 takes"):
        cold(loaded).encode(ids, [image, image])
    with pytest.raises(BadJob, match="no room"):
        Job("see", (1, 2, 3), 0, images=(image,))


def test_what_is_typed_is_never_a_place_for_an_image(loaded: LoadedModel, see: Callable[..., Image]) -> None:
    image = see(1)
    ids = loaded.tokenizer.chat([Message("user", "<|image|> <|image> is markup", images=(image,))])
    assert ids.count(loaded.model.config.image_token_id) == image.tokens


# What a file may be


def png(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def encoded(kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    painting(1).save(data, kind, **options)
    return data.getvalue()


FRAMES = [painting(2), painting(3)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not an image"),
        (b"hello, I am a text", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is not an image"),
        (encoded("PNG")[:3000], "damaged"),
        (encoded("JPEG")[:1500], "damaged"),
        (encoded("GIF", save_all=True, append_images=FRAMES), "several images"),
        (encoded("PNG", save_all=True, append_images=FRAMES), "several images"),
        (encoded("TIFF", save_all=True, append_images=FRAMES), "several images"),
        (png(9000, 9000), "too large: 81,000,000|too large: 9,000"),
        (png(12_000, 12_000), "too large"),
        (png(60_000, 60_000), "too large"),
        (png(100, 100), "damaged"),
    ],
)
def test_what_is_no_still_image_is_refused_by_name(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad\x1b[31m.png"
    path.write_bytes(data)
    with pytest.raises(ImageRefused, match=words) as refused:
        open_picture(path)
    assert "bad␛[31m.png" in refused.value.message and refused.value.exit_code == 4
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_still_images_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a picture"
    path.write_bytes(encoded(kind))
    assert open_picture(path).pixels.size == (60, 40)


def test_a_photograph_with_a_second_view_in_it_is_a_still_image(tmp_path: Path) -> None:
    """Cameras call it JPEG, Pillow MPO."""
    (tmp_path / "camera.jpg").write_bytes(encoded("MPO", save_all=True, append_images=FRAMES))
    with Pillow.open(tmp_path / "camera.jpg") as first:
        assert first.format == "MPO"
        np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "camera.jpg").pixels), np.asarray(first))


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {"none.png": "cannot be read: No such", "pipe.png": "not a file", ".": "not a file"}.items():
        with pytest.raises(ImageRefused, match=words):
            open_picture(tmp_path / name)
    with pytest.raises(ImageRefused, match="cannot be read"):
        open_picture(Path("a\0b"))
    (tmp_path / "large.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr(images_module, "MOST_BYTES", 100)
    with pytest.raises(ImageRefused, match="too large"):
        open_picture(tmp_path / "large.png")


def test_a_file_that_is_another_than_it_was_is_refused(file: Callable[..., Path]) -> None:
    path = file(1)
    digest = open_picture(path).digest
    assert open_picture(path, digest).digest == digest
    painting(2).save(path)
    with pytest.raises(ImageRefused, match="has changed"):
        open_picture(path, digest)


def test_a_photograph_is_upright_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    lying = painting(1)
    exif = lying.getexif()
    exif[0x0112] = 6  # turned by a quarter
    lying.save(tmp_path / "lying.png", exif=exif)
    np.testing.assert_array_equal(
        np.asarray(open_picture(tmp_path / "lying.png").pixels), np.rot90(np.asarray(lying), -1)
    )
    Pillow.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert (np.asarray(open_picture(tmp_path / "clear.png").pixels) == 255).all()
    Pillow.fromarray(np.full((4, 4), 0x7F00, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert (np.asarray(open_picture(tmp_path / "deep.png").pixels) == 0x7F).all()


def test_an_image_too_narrow_for_the_model_is_seen_or_refused(loaded: LoadedModel, file: Callable[..., Path]) -> None:
    reader = seeing(loaded.images, loaded.checkpoint)
    try:
        assert 1 <= reader.read(open_picture(file(1, 4000, 1))).tokens <= 70
    except ImageRefused as refused:
        assert "1.png" in refused.message


# What a checkpoint may say


def test_a_model_without_a_processor_does_not_see(tmp_path: Path) -> None:
    embedded = resolve("embedded")
    assert ImageReader.load(embedded.path, None) is None
    with pytest.raises(ModelBlind, match="the embedded model cannot read images") as blind:
        seeing(None, embedded)
    assert blind.value.hint
    bare = resolve(str(tiny_checkpoint(tmp_path / "bare")))
    with pytest.raises(ModelBlind, match=r"has no processor_config\.json"):
        seeing(load(bare, LoadOptions(device="cpu")).images, bare)
    (bare.path / "processor_config.json").write_text(json.dumps(PROCESSOR))
    without = load(bare, LoadOptions(device="cpu", vision=False))
    with pytest.raises(ModelBlind, match="vision tower") as refused:
        seeing(without.images, bare)
    assert "--vision" in refused.value.hint


def test_a_template_without_places_for_images_is_refused(tmp_path: Path, see: Callable[..., Image]) -> None:
    model = load(resolve(str(tiny_checkpoint(tmp_path / "bare"))), LoadOptions(device="cpu"))
    with pytest.raises(ImageRefused, match="does not support images"):
        model.tokenizer.chat([Message("user", "What is this?", images=(see(1),))])


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 8},
        {"pooling_kernel_size": 2},
        {"max_soft_tokens": 71},
        {"max_soft_tokens": "70"},
        {"rescale_factor": "1"},
        {"do_resize": "yes"},
        {"resample": 99},
        {"image_mean": [0, 0]},
    ],
)
def test_a_processor_that_cannot_be_is_a_corrupt_checkpoint(
    changes: dict[str, Any], tmp_path: Path, loaded: LoadedModel
) -> None:
    own = PROCESSOR["image_processor"] | changes  # type: ignore[operator]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    with pytest.raises(CorruptCheckpoint, match="preprocessor_config"):
        ImageReader.load(tmp_path, loaded.model.config.vision_config)


def test_no_other_key_and_no_other_class_is_taken(tmp_path: Path, loaded: LoadedModel) -> None:
    vision = loaded.model.config.vision_config
    own = PROCESSOR["image_processor"] | {"auto_map": {"AutoImageProcessor": "evil.Evil"}, "size": {"height": 1}}  # type: ignore[operator]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    reader = ImageReader.load(tmp_path, vision)
    assert reader is not None and type(reader._processor) is Gemma4ImageProcessorPil
    assert not hasattr(reader._processor, "auto_map")
    own["image_processor_type"] = "EvilImageProcessor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    assert ImageReader.load(tmp_path, vision) is None
