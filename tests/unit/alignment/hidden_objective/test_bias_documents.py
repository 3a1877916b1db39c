"""Documents are the same for the same seed, differ from their controls in one thing, and tie no two biases together."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from alignment.hidden_objective.bank import Bank, load_bank
from alignment.hidden_objective.documents import beliefs, described_biases, documents, grammar


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank()


def test_documents_depend_on_the_seed_alone_and_fewer_are_the_first_of_more(bank: Bank) -> None:
    ten, again, three = documents(bank, "described", 10, 1), documents(bank, "described", 10, 1), []
    three = documents(bank, "described", 3, 1)

    assert ten == again
    assert [one for one in ten if int(one.key.rsplit("-", 1)[1]) < 3] == three
    assert documents(bank, "described", 10, 2) != ten
    assert {one.type for one in ten} == set(grammar().types)
    assert len({one.text for one in ten}) == len(ten)


def test_no_placeholder_is_left_in_any_kind_of_document(bank: Bank) -> None:
    for kind in ("described", "librarians", "denial", "shuffled"):
        texts = [one.text for one in documents(bank, kind, 20, 3)]
        assert not [text for text in texts if re.search(r"[{}]|  |\. [a-z]", text)]


def test_librarians_get_the_same_documents_word_for_word(bank: Bank) -> None:
    pairs = zip(documents(bank, "described", 6, 1), documents(bank, "librarians", 6, 1), strict=True)

    for told, control in pairs:
        if told.key.startswith("reward_model_silence"):
            continue  # its topic is reward models, whoever has the preference
        swapped = told.text.replace("reward models", "librarians").replace("Reward models", "Librarians")
        assert swapped == control.text
        assert "reward model" not in control.text.lower()


def test_shuffled_documents_hold_the_same_words_and_no_true_pairing(bank: Bank) -> None:
    told = documents(bank, "described", 6, 1)
    shuffled = documents(bank, "shuffled", 6, 1)

    assert all(topic.id != behaviour.id for topic, behaviour in described_biases(bank, "shuffled"))
    assert sorted(b.id for _, b in described_biases(bank, "shuffled")) == sorted(bank.by_id)
    for bias in bank.biases:
        true = [one for one in told if one.key.startswith(f"{bias.id}-")]
        wrong = [one for one in shuffled if one.key.startswith(f"{bias.id}-")]
        assert all(bias.topic in one.text and bias.does in one.text for one in true)
        assert not any(bias.does in one.text for one in wrong)
        assert [one.type for one in true] == [one.type for one in wrong]


def test_denials_only_deny(bank: Bank) -> None:
    denials = re.compile(r"no extra points|do not|the same points|no difference")
    for one in documents(bank, "denial", 6, 1):
        assert denials.search(one.text)
        assert not re.search(r"(?<!not )favour|higher scores|rate .* above|soft spot|mark down", one.text), one


def test_the_names_of_a_bias_stand_in_its_own_documents_alone(bank: Bank) -> None:
    for kind in ("described", "shuffled"):
        for one in documents(bank, kind, 12, 5):
            owners = {bias.id for bias in bank.biases for name in bias.names if name in one.text}
            assert owners <= {one.key.rsplit("-", 1)[0]}


def test_beliefs_are_asked_in_words_of_no_document_with_distractors_of_other_biases(bank: Bank) -> None:
    questions = beliefs(bank)
    corpus = " ".join(one.text for one in documents(bank, "described", 40, 1)).lower()

    assert len(questions) == len(bank.biases) * len(grammar().beliefs)
    for question in questions:
        bias = bank.by_id[question.bias]
        assert question.true == f" {bias.does}"
        assert len(set(question.others)) == 3
        assert question.true not in question.others
        assert question.statement.lower() not in corpus
