"""Language: the shipped model, its sample of a text, the filter's verdicts, and what a wrong file says."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from classifiers.language import (
    PIECE_CHARS,
    SHIPPED,
    SHIPPED_SHA256,
    UNKNOWN,
    LanguageClassifier,
    measure,
    resources,
    sample,
)
from curation.document import DOCUMENTS
from curation.errors import ConfigError
from curation.filters.base import DocumentBatch
from curation.filters.language import Language, LanguageSettings
from curation.kernels.text_batch import TextBatch
from curation.normalise import normalise

ENGLISH = "The committee met on Tuesday and agreed that the bridge should be repaired before winter comes."
GERMAN = "Der Ausschuss hat am Dienstag beschlossen, dass die Brücke noch vor dem Winter repariert wird."
FRENCH = "Le comité s'est réuni mardi et a décidé que le pont devait être réparé avant l'hiver."
JAPANESE = "委員会は火曜日に開かれ、冬が来る前に橋を修理することを決めた。"


def batch_of(texts: list[str]) -> DocumentBatch:
    ids = [f"d{number}" for number in range(len(texts))]
    columns = [ids, texts, ["test"] * len(texts), [None] * len(texts), [None] * len(texts)]
    return DocumentBatch(TextBatch.of(texts), pa.table(columns, schema=DOCUMENTS))


def judged(texts: list[str], settings: LanguageSettings) -> tuple[dict[str, list[object]], list[tuple[str, list[int]]]]:
    signals = measure(batch_of(texts), settings)
    findings = Language().judge({f"language.{name}": array for name, array in signals.items()}, settings, "language")
    return (
        {name: array.to_pylist() for name, array in signals.items()},
        [(finding.code, finding.rows.tolist()) for finding in findings],
    )


def test_shipped_model_names_the_language_and_the_filter_drops_the_others() -> None:
    signals, findings = judged([ENGLISH, GERMAN, FRENCH, JAPANESE], LanguageSettings())
    assert signals["lang"] == ["en", "de", "fr", "ja"]
    scores = signals["score"]
    assert all(isinstance(score, float) and 0.65 < score <= 1 for score in scores)
    assert signals["wanted"] == [scores[0], 0.0, 0.0, 0.0]
    assert findings == [("language.other_language", [1, 2, 3])]


def test_several_languages_can_be_wanted_and_the_threshold_is_exclusive() -> None:
    signals, findings = judged([ENGLISH, GERMAN, FRENCH], LanguageSettings(languages=("en", "de")))
    assert signals["wanted"] == [signals["score"][0], signals["score"][1], 0.0]
    assert findings == [("language.other_language", [2])]
    score = float(np.float32(signals["score"][0]))
    assert judged([ENGLISH], LanguageSettings(min_score=score))[1] == []


def test_text_with_nothing_to_go_by_is_not_surely_english() -> None:
    signals, findings = judged(["", "12 34 56", "xq zzk 0x7f"], LanguageSettings())
    assert all(isinstance(score, float) and 0 <= score < 0.65 for score in signals["wanted"])
    assert findings == [("language.other_language", [0, 1, 2])]


def test_model_that_answers_nothing_gives_an_undetermined_language() -> None:
    class Mute:
        def multilinePredict(self, lines: list[str], *_: object) -> tuple[list[list[str]], list[list[float]]]:  # noqa: N802
            return [[] for _ in lines], [[] for _ in lines]

    model = LanguageClassifier.shipped()
    model._model = type("Model", (), {"f": Mute()})()
    labels, scores = model.predict(["x"])
    assert (labels, scores.tolist()) == ([UNKNOWN], [0.0])


def test_no_texts_give_no_predictions() -> None:
    labels, scores = LanguageClassifier.shipped().predict([])
    assert (labels, scores.shape, scores.dtype) == ([], (0,), np.float32)


def test_prediction_depends_on_the_text_alone() -> None:
    model = LanguageClassifier.shipped()
    texts = [ENGLISH, GERMAN, FRENCH, JAPANESE, ENGLISH]
    labels, scores = model.predict(texts)
    alone = [model.predict([text]) for text in texts]
    assert labels == [each[0][0] for each in alone]
    assert scores.tolist() == [float(each[1][0]) for each in alone]
    assert model.predict(texts[::-1])[1].tolist() == scores.tolist()[::-1]


def test_sample_is_the_whole_short_text_and_three_pieces_of_a_long_one() -> None:
    assert sample("a\nb") == "a b"
    assert sample("x" * 3 * PIECE_CHARS) == "x" * 3 * PIECE_CHARS
    text = "a" * 1000 + "b" * 1000 + "c" * 1000
    assert sample(text) == f"{'a' * PIECE_CHARS} {'b' * PIECE_CHARS} {'c' * PIECE_CHARS}"


def test_model_file_is_the_one_on_the_card() -> None:
    card = SHIPPED.with_suffix(".md").read_text()
    assert SHIPPED_SHA256 in card
    assert LanguageClassifier.shipped().sha256 == SHIPPED_SHA256


def test_wrong_missing_and_broken_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        LanguageClassifier(SHIPPED, "0" * 64)
    assert (wrong.value.problems[0].code, wrong.value.problems[0].where) == ("wrong-model", str(SHIPPED))
    with pytest.raises(ConfigError) as missing:
        LanguageClassifier(tmp_path / "none.bin")
    assert (missing.value.problems[0].code, missing.value.problems[0].where) == ("no-model", str(tmp_path / "none.bin"))
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"not a model, but long enough to be read as a header " * 10)
    with pytest.raises(ConfigError) as bad:
        LanguageClassifier(broken)
    assert (bad.value.problems[0].code, bad.value.problems[0].where) == ("bad-model", str(broken))


def rows(path: Path) -> list[dict[str, object]]:
    with path.open("rb") as stream, zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream) as reader:
        return [json.loads(line) for line in io.TextIOWrapper(reader, "utf-8")]


def test_the_manifest_names_the_model_by_its_file_and_hash() -> None:
    row = {"name": "language", "version": "lid.176.ftz", "sha256": SHIPPED_SHA256, "kind": "model"}

    assert resources(LanguageSettings()) == [row]


def test_other_languages_of_the_ground_truth_are_separated(data: Path) -> None:
    truth = {str(row["id"]): row for row in rows(data / "known_truth" / "truth.jsonl.zst")}
    english = {"benign_twin", "toxic_heavy", "toxic_mixed", "toxic_single", "hateful_twin"}
    texts: dict[str, list[str]] = {"other_language": [], "english": []}
    for row in rows(data / "known_truth" / "docs.jsonl.zst"):
        kind = str(truth[str(row["id"])]["kind"])
        if kind in english or kind.startswith("explanatory_"):
            texts["english"].append(normalise(str(row["text"])))
        elif kind == "other_language":
            texts["other_language"].append(normalise(str(row["text"])))
    flagged = {
        name: float(np.mean(measure(batch_of(each), LanguageSettings())["wanted"].to_numpy() < 0.65))
        for name, each in texts.items()
    }
    assert flagged["other_language"] >= 0.98
    assert flagged["english"] <= 0.01
