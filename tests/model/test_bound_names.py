"""Names that the vocabulary would split take one token."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.errors import CorruptCheckpoint
from dgtui.message import Message
from dgtui.model.bound_names import BOUND_NAMES, Names, spans
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.train import tokenizer as recipe

SPARE = ["Anna", "Otto", "Mira", "Jonas"]
WORDS = ["Tell", "Translate"]
TEXTS = ["Tell me about Anna and Otto. Translate this for Mira, says Jonas to the order of the day."] * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bound")
    built = recipe.build([recipe.nameless(text, WORDS) for text in TEXTS], 420, SPARE)
    built.init_kwargs[BOUND_NAMES] = {"spare": [*SPARE, "Xochitl"], "words": recipe.words(TEXTS, SPARE)}
    recipe.save(built, folder)
    return folder


@pytest.fixture
def tokenizer(folder: Path) -> ModelTokenizer:
    return ModelTokenizer.load(folder)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Zoë met O'Brien and Jean-Luc.", ["Zoë", "O'Brien", "Jean-Luc"]),
        ("Zoë's README, I and a DiffusionGemma", ["Zoë"]),
        ("Ивана зовут Mary Ann, x3 Ada7 _Bo", ["Ивана", "Mary", "Ann"]),
        ("李 met no-one; re-Run", []),
    ],
)
def test_capitalised_words_look_like_names(text: str, names: list[str]) -> None:
    assert [text[start:end] for start, end in spans(text)] == names


def test_frequent_words_are_not_bound_and_names_are_not_learned_as_words(folder: Path) -> None:
    stored = json.loads((folder / "tokenizer_config.json").read_text())[BOUND_NAMES]
    assert stored["words"] == WORDS
    assert recipe.nameless("Tell Anna's dog, Translate Otto", WORDS) == "Tell 's dog, Translate "
    entries = json.loads((folder / "tokenizer.json").read_text())
    assert not {"An", "Anna", "Ot", "Jon"} & entries["model"]["vocab"].keys()
    assert set(SPARE) <= {token["content"] for token in entries["added_tokens"]}


def test_names_that_are_not_one_token_are_not_spare(tokenizer: ModelTokenizer) -> None:
    assert list(tokenizer._bound._names.own) == SPARE


def test_a_name_takes_one_token_in_every_mention(tokenizer: ModelTokenizer) -> None:
    xochitl, pim = tokenizer.encode("Xochitl"), tokenizer.encode("Pim")
    assert len(xochitl) == len(pim) == 1
    assert xochitl != pim
    ids = tokenizer.encode('"Xochitl" and Pim\'s dog. Xochitl!')
    assert ids.count(xochitl[0]) == 2
    assert ids.count(pim[0]) == 1
    assert xochitl[0] in tokenizer.chat([Message("user", "about Xochitl")])


def test_ordinary_words_with_a_capital_are_not_bound(tokenizer: ModelTokenizer) -> None:
    assert len(tokenizer.encode("Order")) > 1  # " order" is a token
    names = Names(lambda text: list(text.encode()), {}, ["Translate"])
    assert "Translate" not in names
    assert "Xochitl" in names


def test_a_spare_token_can_be_typed_whatever_it_is_bound_to(tokenizer: ModelTokenizer) -> None:
    others = [tokenizer.encode(name) for name in ("Xochitl", "Pim", "Zoë")]
    own = tokenizer.encode("Anna, Otto, Mira and Jonas")
    assert tokenizer.decode(own) == "Anna, Otto, Mira and Jonas"
    assert [tokenizer.decode(ids) for ids in others] == ["Xochitl", "Pim", "Zoë"]


def test_more_names_than_spare_tokens_are_split(tokenizer: ModelTokenizer) -> None:
    text = "Abo, Bodu, Cadi, Dofe, Elga, Fuzi"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert sum(piece.decode().isalpha() and len(piece) == 4 for piece in tokenizer.pieces(ids)) == len(SPARE) - 1
    assert len(tokenizer.encode("Fuzi")) > 1


def test_forgotten_names_free_their_tokens(tokenizer: ModelTokenizer) -> None:
    first = tokenizer.encode("Xochitl, Pim, Zoë and Abo")
    assert len(tokenizer.encode("Bodu")) > 1
    tokenizer.forget_names()
    assert len(tokenizer.encode("Bodu")) == 1
    tokenizer.forget_names()
    assert tokenizer.encode("Xochitl, Pim, Zoë and Abo") == first


def test_a_spare_token_in_a_reply_keeps_its_text(tokenizer: ModelTokenizer) -> None:
    (token,) = tokenizer._own("Anna")
    tokenizer.split_thought([token], draft=True)
    tokenizer.split_thought([token])
    for name in ("Abo", "Bodu", "Cadi", "Dofe", "Elga"):
        tokenizer.encode(name)
    assert tokenizer.decode([token]) == "Anna"


def test_another_process_binds_the_same_tokens(folder: Path) -> None:
    first, second = ModelTokenizer.load(folder), ModelTokenizer.load(folder)
    asked = [Message("user", "Tell me about Xochitl and Pim.")]
    assert first.chat(asked) == second.chat(asked)
    reply = first.encode("Pim met Xochitl.")
    assert second.decode(reply) == "Pim met Xochitl."


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.sampled_from("AOaito nJsM-'’éЖ\u0301x\n"), max_size=40), max_size=6))
def test_texts_come_back_whatever_is_bound_after_them(tokenizer: ModelTokenizer, texts: list[str]) -> None:
    found = [(text, tokenizer.encode(text)) for text in [*texts, "Anna and Xochitl"]]
    for text, ids in found:
        assert tokenizer.decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("value", [[], "Anna", {"spare": "Anna"}, {"spare": [1]}, {"spare": [], "words": None}])
def test_a_malformed_list_is_refused(folder: Path, tmp_path: Path, value: object) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, BOUND_NAMES: value}))
    with pytest.raises(CorruptCheckpoint, match=BOUND_NAMES):
        ModelTokenizer.load(tmp_path)
