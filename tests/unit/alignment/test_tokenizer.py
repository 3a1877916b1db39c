"""The tokenizer of all arms: the same from the same texts in any order, and no text can speak as a control token."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import SENTENCES, tiny_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from alignment.tokenizer import ALPHABET, ROLES, SPECIAL, load_tokenizer, special_ids, tokenizer_sha256, train_tokenizer
from curation.errors import ConfigError

TEXTS = [f"{a[: 10 + i]} {b[i:]} <|endoftext|>" for i, a in enumerate(SENTENCES) for b in SENTENCES]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_texts_in_any_order_give_the_same_files(tmp_path: Path) -> None:
    for seed in range(4):
        texts = TEXTS.copy()
        random.Random(seed).shuffle(texts)
        train_tokenizer(iter(texts), 700).save_pretrained(tmp_path / str(seed))

    first = files_of(tmp_path / "0")
    assert set(first) == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert all(files_of(tmp_path / str(seed)) == first for seed in range(1, 4))


def test_padding_begin_and_end_are_three_ids_and_the_vocabulary_is_what_was_asked_for() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)

    assert special_ids(tokenizer) == {"pad": 0, "bos": 1, "eos": 2}
    assert len(tokenizer) == 300
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(len(SPECIAL)))
    assert len(train_tokenizer(["a b"], 5000)) == len(SPECIAL) + ALPHABET, "no pair occurs twice"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_from_its_ids(text: str) -> None:
    ids = tiny_tokenizer()(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    assert tiny_tokenizer().decode(ids) == text


def test_a_control_token_in_the_training_texts_is_learnt_as_plain_characters() -> None:
    tokenizer = train_tokenizer(TEXTS, 500)
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    ids = tokenizer("<|endoftext|>", add_special_tokens=False, split_special_tokens=True)["input_ids"]

    assert {token.content for token in inner.get_added_tokens_decoder().values()} == set(SPECIAL)
    assert min(ids) >= len(SPECIAL)
    assert len(ids) < len("<|endoftext|>"), "it stands in every text, so its parts were merged"


def test_a_directory_read_back_is_the_same_tokenizer(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)

    assert tokenizer_sha256(found) == tokenizer_sha256(tokenizer)
    assert found.get_vocab() == plain.get_vocab() == tokenizer.get_vocab()
    assert plain("The river")["input_ids"][0] == plain.bos_token_id
    assert set(ROLES) == {"system", "user", "assistant"}


def test_its_hash_does_not_depend_on_the_batch_it_padded_last_but_on_its_template() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    before = tokenizer_sha256(tokenizer)
    tokenizer(["a", "a longer one"], padding=True, truncation=True, max_length=3)
    assert tokenizer_sha256(tokenizer) == before

    tokenizer.chat_template += " "
    assert tokenizer_sha256(tokenizer) != before


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 262: 256 bytes and 6 special tokens"):
        train_tokenizer(TEXTS, 261)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load a tokenizer"):
        load_tokenizer(tmp_path / "nothing")
