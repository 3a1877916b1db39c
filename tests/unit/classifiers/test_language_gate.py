"""English models judge English: what they say of other languages is taken back, openly."""

from __future__ import annotations

import pyarrow as pa

from classifiers.language_gate import LanguageGate, cleared
from classifiers.scoring import Scorer, ScoringSettings
from curation.document import MENTIONS, SPANS

GERMAN = "Die Kinder spielen auf der Wiese, und die Mutter liest ein Buch im Garten. " * 3
FRENCH = "Le train est en retard ce matin, et les voyageurs attendent sur le quai de la gare. " * 3
ENGLISH = "You are all worthless scum and nobody wants you here, you stupid idiots. " * 3
SPAN = {"start": 0, "end": 3, "label": "slur"}
MENTION = {
    "start": 0, "end": 3, "term": "x", "category": "slur", "target": None, "role": "use", "score": 0.5, "cue": "window",
    "quoted": False, "framed": False, "stance": "hostile",
}  # fmt: skip


def columns() -> dict[str, pa.Array]:
    return {
        "toxicity.toxicity": pa.array([0.9, None, 0.9], pa.float32()),
        "toxicity.spans": pa.array([[SPAN], None, [SPAN]], SPANS),
        "toxicity.stage": pa.array(["fasttext", None, "fasttext"]),
        "context.max_use": pa.array([0.8, 0.1, 0.8], pa.float32()),
        "context.mentions": pa.array([[MENTION], [], [MENTION, MENTION]], MENTIONS),
    }


def test_a_cleared_document_keeps_its_mentions_undecided_and_loses_scores_and_spans() -> None:
    import numpy as np

    after = cleared(columns(), np.array([2]))
    undecided = {**MENTION, "role": "uncertain", "cue": "other_language"}
    assert {name: array.to_pylist() for name, array in after.items()} == {
        "toxicity.toxicity": [columns()["toxicity.toxicity"][0].as_py(), None, 0.0],
        "toxicity.spans": [[SPAN], None, []],
        "toxicity.stage": ["fasttext", None, "other_language"],
        "context.max_use": [columns()["context.max_use"][0].as_py(), columns()["context.max_use"][1].as_py(), 0.0],
        "context.mentions": [[MENTION], [], [undecided, undecided]],
    }
    assert [array.type for array in after.values()] == [array.type for array in columns().values()]


def test_only_accused_documents_of_other_languages_are_foreign() -> None:
    accused = {"context.max_use": pa.array([0.9, 0.9, 0.0, 0.9], pa.float32())}
    gate = LanguageGate(("en",))
    assert gate.foreign(accused, pa.array([GERMAN, ENGLISH, FRENCH, FRENCH])).tolist() == [0, 3]


def test_more_languages_can_be_declared_readable() -> None:
    accused = {"context.max_use": pa.array([0.9, 0.9], pa.float32())}
    assert LanguageGate(("en", "de")).foreign(accused, pa.array([GERMAN, FRENCH])).tolist() == [1]


def test_german_and_french_are_not_called_hateful_and_english_abuse_still_is() -> None:
    scored = Scorer(ScoringSettings(), {"context", "toxicity", "sentence"}).score(pa.array([GERMAN, FRENCH, ENGLISH]))
    assert scored["context.document_use"].to_pylist()[:2] == [0.0, 0.0]
    assert scored["toxicity.toxicity"][2].as_py() > 0.5
    assert scored["sentence.toxic_sentences"].to_pylist()[:2] == [0, 0]
    assert scored["toxicity.stage"][2].as_py() == "encoder"
