"""The collapsed fastText model says what fastText itself says; tokens and windows cover the text."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from classifiers.base import WEIGHTS, load_card
from classifiers.calibration import Calibration, expected_calibration_error, fit_isotonic
from classifiers.fasttext_file import read_linear_model
from classifiers.tokens import tokenize
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import SENTENCES, Windows, WindowSettings, cut, row_top_mean, token_at
from curation.errors import ConfigError
from curation.kernels.text_batch import TextBatch

TEXTS = (
    "You are a stupid idiot!!! Shut up @bob, see https://x.example/a?b=1",
    "The weather is nice today. We walked to the lake, and l’été was über 😀😀.",
    "",
    "one\n\ntwo three four\nfive six seven eight",
    "word " * 200,
)
IDENTITY = Calibration((-1e9, 1e9), (-1e9, 1e9))


def test_every_window_scores_as_fasttext_itself_scores_its_tokens() -> None:
    fasttext = pytest.importorskip("fasttext")
    path = WEIGHTS / "toxicity.ftz"
    tokens = tokenize(TextBatch.of(TEXTS))
    windows = cut(tokens, WindowSettings())
    logits = FastTextToxicity(path, IDENTITY).logits(tokens, windows)
    reference = fasttext.load_model(str(path))
    for window, logit in enumerate(logits):
        cuts = tokens.offsets[windows.first[window] : windows.last[window] + 1]
        line = " ".join(tokens.data[a:b].tobytes().decode() for a, b in pairwise(cuts))
        answer = {label: p for p, label in reference.f.predict(line + "\n", 2, 0.0, "strict")}
        # fastText adds 1e-5 to a probability before its logarithm, so it can answer 1.00001.
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(answer["__label__toxic"], abs=3e-5)


def test_a_model_that_is_no_two_label_word_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ftz").write_bytes(b"\0" * 64)
    with pytest.raises(ConfigError, match="not a fastText model file"):
        read_linear_model(tmp_path / "x.ftz", "__label__toxic")
    whole = (WEIGHTS / "toxicity.ftz").read_bytes()
    (tmp_path / "cut.ftz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="not a whole fastText model"):
        read_linear_model(tmp_path / "cut.ftz", "__label__toxic")
    with pytest.raises(ConfigError, match="one of them `__label__other`"):
        read_linear_model(WEIGHTS / "toxicity.ftz", "__label__other")


def test_weights_with_another_sha256_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.ftz").write_bytes(b"other")
    (tmp_path / "m.json").write_text('{"files": {"m.ftz": "%s"}}' % ("0" * 64))
    with pytest.raises(ConfigError, match="wrong-weights"):
        load_card(tmp_path / "m.json")
    load_card(WEIGHTS / "toxicity.json")
    load_card(WEIGHTS / "context.json")


def test_the_shipped_model_fits_its_budget() -> None:
    assert (WEIGHTS / "toxicity.ftz").stat().st_size <= 5_000_000


def test_tokens_hide_names_and_links_and_keep_their_place() -> None:
    text = "@Bob You're a f*ck &gt; HTTPS://x.y/z) “No”!!! 3.5"
    tokens = tokenize(TextBatch.of([text]))
    spans = [text[a:b] for a, b in zip(tokens.start, tokens.end, strict=True)]
    assert tokens.words(0) == ["@user", "you're", "a", "f*ck", "<url>", '"', "no", '"', "!", "3", "5"]
    assert spans == ["@Bob", "You're", "a", "f*ck", "HTTPS://x.y/z", "“", "No", "”", "!!!", "3", "5"]


def test_windows_cover_every_token_once_and_end_at_line_breaks() -> None:
    tokens = tokenize(TextBatch.of(TEXTS))
    windows = cut(tokens, WindowSettings())
    covered = [t for a, b in zip(windows.first, windows.last, strict=True) for t in range(a, b)]
    assert covered == list(range(len(tokens.start)))
    assert np.diff(windows.bounds).tolist()[2:] == [0, 2, 4]  # "one" alone is too short for a window of its own
    assert (windows.last - windows.first).max() <= 60


def test_sentences_end_at_full_stops_and_lines() -> None:
    text = "One two. Three 3.5 four? Five\nsix"
    tokens = tokenize(TextBatch.of([text]))
    sentences = cut(tokens, SENTENCES)
    pieces = [text[tokens.start[a] : tokens.end[b - 1]] for a, b in zip(sentences.first, sentences.last, strict=True)]
    assert pieces == ["One two", "Three 3.5 four?", "Five", "six"]


def test_a_point_belongs_to_the_last_token_that_starts_before_it() -> None:
    tokens = tokenize(TextBatch.of(["aa bb", "cc dd ee"]))
    rows, points = np.array([0, 0, 1, 1], np.int32), np.array([0, 4, 2, 7], np.int32)
    assert token_at(tokens, rows, points).tolist() == [0, 1, 2, 4]


def test_the_top_mean_rounds_up_to_at_least_one_window() -> None:
    values, bounds = np.array([0.1, 0.9, 0.5, 0.2]), np.array([0, 3, 3, 4])
    assert row_top_mean(values, bounds, 0.5).tolist()[0] == pytest.approx(0.7)
    assert np.isnan(row_top_mean(values, bounds, 0.5)[1])
    assert row_top_mean(values, bounds, 0.2)[2] == 0.2


def test_isotonic_calibration_is_monotone_and_right_on_average() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=5000)
    truth = (rng.random(5000) < 1 / (1 + np.exp(-2 * raw))).astype(float)
    calibration = fit_isotonic(raw, truth)
    assert list(calibration.y) == sorted(calibration.y)
    assert len(calibration.x) <= 64
    assert expected_calibration_error(calibration.apply(raw), truth) < 0.02


def test_calibration_error_of_a_hand_computed_case() -> None:
    # two bins: (0.2, 0.2 said; 0.5 true) and (0.9 said; 1 true): (2·0.3 + 1·0.1) / 3
    assert expected_calibration_error(np.array([0.2, 0.2, 0.9]), np.array([0.0, 1.0, 1.0])) == pytest.approx(0.7 / 3)


def test_windows_of_an_empty_batch_are_empty() -> None:
    windows = cut(tokenize(TextBatch.of([])), WindowSettings())
    assert isinstance(windows, Windows)
    assert len(windows) == 0
