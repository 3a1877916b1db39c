"""The encoder and the cascade over it: what is read, what each answer belongs to, and what happens when it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from classifiers.base import WEIGHTS
from classifiers.calibration import Calibration
from classifiers.cascade import Cascade, Mix, holding, mix_matrix, run_cascade
from classifiers.context_features import CUES, READ_DOCUMENT, names_group, read_document_columns, read_mention_columns
from classifiers.encoder import UNREAD, Encoder, Reading, read_windows, with_marks
from classifiers.roles import COUNTER, HATE, ROLES, TOXIC
from classifiers.tokens import Tokens, tokenize
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import Windows, WindowSettings, cut
from curation.errors import ConfigError
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Hits, Matcher


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(WEIGHTS / "encoder.onnx", WEIGHTS / "encoder.tokenizer.json")


def prepared(*texts: str) -> tuple[pa.Array, Tokens, Windows, Hits]:
    batch = TextBatch.of(list(texts))
    tokens = tokenize(batch)
    return batch.array, tokens, cut(tokens, WindowSettings()), Matcher(load_lexicon("english")).find(batch)


class Told:
    """An encoder that notes what it was asked and answers with its text's length."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def read(self, text: str, spans: Any) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((text, [text[a:b] for a, b in spans]))
        return np.full(3, float(len(text))), np.tile(np.arange(len(ROLES), dtype=float), (len(spans), 1))


def test_a_text_s_answer_does_not_depend_on_what_was_read_before(encoder: Encoder) -> None:
    texts = ["You are all scum.", "The word means a ditch.", "a " * 200]
    first = [encoder.read(text, [(0, 3)]) for text in texts]
    again = [encoder.read(text, [(0, 3)]) for text in reversed(texts)][::-1]
    for (a, b), (c, d) in zip(first, again, strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)


def test_hate_scores_above_ordinary_talk_and_an_answer_to_hate_counts_as_counter_speech(encoder: Encoder) -> None:
    hate, _ = encoder.read("I hate all Muslims, they are vermin and should be wiped out.", [])
    plain, _ = encoder.read("The council met on Tuesday about the new bridge.", [])
    answer, _ = encoder.read("Please stop posting hateful slurs, it is racist and they deserve respect.", [])
    assert hate[HATE] > 0 > plain[HATE]
    assert hate[TOXIC] > 0 > plain[TOXIC]
    assert answer[COUNTER] > plain[COUNTER]


def test_a_span_takes_its_own_pieces_and_one_beyond_the_model_s_length_the_whole_text_s_mean(encoder: Encoder) -> None:
    text = "👍🏽 They called me a faggot 😢 and laughed. " + "word " * 200
    at = text.index("faggot")
    end = len(text)
    _, roles = encoder.read(text, [(at, at + 6), (0, 1), (end - 5, end - 1), (end - 10, end - 6)])
    assert not np.allclose(roles[0], roles[1])
    assert np.array_equal(roles[2], roles[3])


def test_only_asked_windows_are_read_each_with_its_own_mentions_in_its_own_code_points() -> None:
    texts, tokens, windows, hits = prepared(
        "Nothing to see here.\n\n“What a faggot”, he said.", "The kikes said nothing at all."
    )
    told = Told()
    asked = np.array([False, True, True])
    reading = read_windows(told, texts, tokens, windows, hits, asked)
    assert told.asked == [
        ("“What a faggot”, he said.", ["faggot"]),
        ("The kikes said nothing at all.", ["kikes"]),
    ]
    assert reading.text[0].tolist() == UNREAD.tolist()
    assert reading.text[1].tolist() == [25.0] * 3
    assert np.exp(reading.role).sum(axis=1) == pytest.approx([1.0, 1.0])


def test_a_window_is_asked_about_when_the_first_stage_doubts_it_or_a_demeaning_term_stands_in_it() -> None:
    said = ["You stupid idiots, shut up and die.", "A kike, he wrote.", "A nice day in May."]
    texts, tokens, windows, hits = prepared(*said)
    first = FastTextToxicity(WEIGHTS / "toxicity.ftz", Calibration.load(WEIGHTS / "toxicity.json", "calibration"))
    demeaning = hits.row == 1
    told = Told()
    cascade = Cascade(first, told, Mix(np.array([0.0, 0.0, 0.0]), -1.0), 0.5)
    scored = run_cascade(TextBatch(texts), tokens, windows, cascade, hits, demeaning)
    assert [text for text, _ in told.asked] == said[:2]
    assert scored.stage.tolist() == [1, 1, 0]
    assert scored.probability[:2] == pytest.approx([1 / (1 + np.e)] * 2)
    assert scored.probability[2] == first.probabilities(tokens, windows)[2]
    assert holding(hits, demeaning, tokens, windows).tolist() == [False, True, False]


def test_the_mix_is_the_logistic_of_its_three_logits() -> None:
    mix = Mix(np.array([1.0, 2.0, 0.5]), -0.25)
    first, text = np.array([0.5, 0.9]), np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 0.0]])
    expected = [1 / (1 + np.exp(-(0 + 2 - 0.5 - 0.25))), 1 / (1 + np.exp(-(np.log(9) + 0 + 1 - 0.25)))]
    assert mix.probability(first, text) == pytest.approx(expected)
    assert mix_matrix(np.array([0.0, 1.0]), text)[:, 0] == pytest.approx([-9.21024, 9.21024])


def test_neighbours_of_another_document_count_as_unread() -> None:
    _, _, windows, _ = prepared("One line here.\nAnother line there.", "A third line alone.")
    text = np.arange(9, dtype=float).reshape(3, 3)
    reading = Reading(np.ones(3, bool), text, np.full((2, 6), -np.log(6.0)), {})
    found = read_mention_columns(reading, windows, np.array([0, 2]))
    beside = {"next": [[4, 5], UNREAD[[HATE, COUNTER]]], "before": [UNREAD[[HATE, COUNTER]]] * 2}
    assert found[:, -4:-2] == pytest.approx(np.array(beside["next"]))
    assert found[:, -2:] == pytest.approx(np.array(beside["before"]))


def test_hate_that_is_answered_counts_less_than_hate_that_is_not() -> None:
    _, _, windows, _ = prepared("First line here.\nSecond line there.", "First line here.\nSecond line there.")
    hate, answer, quiet = [0.0, 4.0, -4.0], [-4.0, -4.0, 4.0], [-5.0, -5.0, -4.0]
    reading = Reading(np.ones(4, bool), np.array([hate, answer, hate, quiet]), np.zeros((0, 6)), {})
    found = read_document_columns(reading, windows, windows.last - windows.first, np.ones(4), np.ones(4, bool))
    unanswered = found[:, 5]
    assert unanswered[0] < 0.05
    assert unanswered[1] > 0.9


def test_hate_counts_as_aimed_at_a_group_in_the_windows_that_name_one() -> None:
    _, _, windows, _ = prepared("First line here.\nSecond line there.", "First line here.\nSecond line there.")
    text = np.array([[0.0, 2.0, -4.0], [0.0, 4.0, -4.0]] * 2)
    reading = Reading(np.ones(4, bool), text, np.zeros((0, 6)), {})
    sizes = windows.last - windows.first
    names = np.array([True, False, False, False])
    found = read_document_columns(reading, windows, sizes, np.ones(4), names)
    highest = dict(zip(READ_DOCUMENT, found.T, strict=True))
    assert highest["hate_highest"] == pytest.approx([1 / (1 + np.exp(-4.0))] * 2)
    assert highest["group_hate_highest"] == pytest.approx([1 / (1 + np.exp(-2.0)), 0.0])


def test_a_window_names_a_group_by_an_identity_cue_or_a_demeaning_term() -> None:
    _, tokens, windows, _ = prepared("First line here.\nSecond line there.", "Third line here.")
    cues = np.zeros(len(tokens.start), np.int64)
    cues[windows.first[1]] = 1 << CUES.index("identity")
    cues[windows.first[2]] = 1 << CUES.index("negation")
    assert names_group(windows, cues, np.array([], np.int64)).tolist() == [False, True, False]
    assert names_group(windows, cues, np.array([2, 2])).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "span", "widened"),
    [("say “hi”!", (5, 7), "“hi”!"), ("(a) b", (1, 2), "(a)"), ("a b", (0, 1), "a"), ("x", (0, 1), "x")],
)
def test_a_window_takes_the_signs_that_touch_it(text: str, span: tuple[int, int], widened: str) -> None:
    start, end = with_marks(text, *span)
    assert text[start:end] == widened


def test_a_file_that_is_no_model_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Encoder(tmp_path / "x.onnx", WEIGHTS / "encoder.tokenizer.json")
