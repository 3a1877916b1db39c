"""The scorer's columns: types, whole decisions on texts that only differ in context, failures, determinism."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from classifiers import scoring
from classifiers.base import WEIGHTS
from classifiers.encoder import Encoder
from classifiers.scoring import Scorer, ScoringSettings
from curation.decision import decide
from curation.errors import ConfigError
from curation.filters import FILTERS
from curation.filters.base import arrow_type
from curation.ruleset import load_ruleset

USE = "You are a filthy faggot and I hate you, get out and die."
SLUR_EXPLAINED = "faggot: (offensive slang) a derogatory word for gay men. Its origin lies in the nineteenth century."
COURT = "According to the court, the defendant shouted faggot at the victim. The jury convicted him, a newspaper said."
ANSWERED = "He commented: “all kikes must die”\nPlease don't use slurs like kike. Jewish people deserve respect."
DISCLAIMED = "I'm not racist but every nigger I know is lazy, they are all criminals and should be deported."
PREAMBLE = (
    "The word faggot has a long history. And every filthy faggot is a parasite, get out and die, kill all faggots."
)
HOMONYM = "My Maine coon sleeps on the dyke near the water, it is a lovely cat breed."
ORDINARY = "The council met on Tuesday and talked about the new bridge over the river."


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(ScoringSettings())


def verdicts(scorer: Scorer, *texts: str, ruleset: str = "curated") -> list[str]:
    array = pa.array(texts)
    columns = scorer.score(array)
    rules = load_ruleset(ruleset)
    nothing = {f"dedup.{name}": pa.array(np.zeros(len(texts))) for name in ("exact", "near")}
    return decide(columns | nothing, array, rules).verdict_names().to_pylist()


def test_columns_are_those_the_filters_declare(scorer: Scorer) -> None:
    columns = scorer.score(pa.array([USE, ORDINARY, ""]))
    declared = {
        f"{name}.{signal.name}": arrow_type(signal.dtype)
        for name in ("blocklist", "toxicity", "sentence", "context")
        for signal in FILTERS.get(name).signals
    }
    assert {name: column.type for name, column in columns.items()} == declared | {"scoring.failed": pa.string()}
    assert all(len(column) == 3 for column in columns.values())
    assert [c.null_count for name, c in columns.items() if name != "scoring.failed"] == [0] * len(declared)


@pytest.mark.parametrize("text", [SLUR_EXPLAINED, COURT, ANSWERED, HOMONYM, ORDINARY, "", "\n", "😀"])
def test_curated_keeps_explanation_report_answer_and_homonym(scorer: Scorer, text: str) -> None:
    assert verdicts(scorer, text) == ["keep"]


@pytest.mark.parametrize("text", [USE, DISCLAIMED, PREAMBLE, "faggots kikes niggers chinks spics", "shut up, n1gger"])
def test_curated_drops_use_whatever_it_hides_behind(scorer: Scorer, text: str) -> None:
    assert verdicts(scorer, text) == ["drop"]


def test_the_blocklist_cannot_tell_them_apart(scorer: Scorer) -> None:
    assert verdicts(scorer, USE, SLUR_EXPLAINED, ORDINARY, ruleset="blocklist") == ["drop", "drop", "keep"]


def test_profanity_alone_does_not_drop(scorer: Scorer) -> None:
    text = "This fucking printer is out of paper again. Shit happens, I guess, so I went for a walk by the river."
    assert verdicts(scorer, text) == ["keep"]


def test_every_mention_has_place_role_score_and_cue(scorer: Scorer) -> None:
    columns = scorer.score(pa.array([HOMONYM, "The term kike is a slur."]))
    first, second = columns["context.mentions"].to_pylist()
    assert [(m["term"], m["role"], m["score"], m["cue"]) for m in first if m["term"] == "coon"] == [
        ("coon", "homonym", 1.0, "guard_phrase")
    ]
    (kike,) = second
    assert (kike["start"], kike["end"], kike["category"], kike["target"]) == (9, 13, "slur", "Jewish people")
    assert kike["role"] != "use"
    assert kike["cue"]
    assert columns["context.use_spans"].to_pylist() == [[], []]


def test_rows_are_scored_alike_alone_in_any_order_and_in_any_batch(scorer: Scorer) -> None:
    texts = [USE, ORDINARY, ANSWERED, PREAMBLE, HOMONYM, DISCLAIMED]
    together = scorer.score(pa.array(texts))
    backwards = scorer.score(pa.array(texts[::-1]))
    alone = [scorer.score(pa.array([text])) for text in texts]
    for name, column in together.items():
        assert column.to_pylist() == backwards[name].to_pylist()[::-1]
        assert column.to_pylist() == [row[name].to_pylist()[0] for row in alone]
    sliced = scorer.score(pa.array(["x", *texts]).slice(1))
    assert {k: v.to_pylist() for k, v in sliced.items()} == {k: v.to_pylist() for k, v in together.items()}


def test_only_what_the_filters_need_is_loaded_and_named() -> None:
    scorer = Scorer(ScoringSettings(), {"blocklist"})
    assert set(scorer.score(pa.array([USE]))) == {"blocklist.hits", "blocklist.spans", "scoring.failed"}
    assert [row["name"] for row in scorer.resources()] == ["lexicon/ldnoobw"]
    assert scorer.notes() == []


def test_the_shipped_encoder_is_the_second_stage_and_named_among_the_resources(scorer: Scorer) -> None:
    assert scorer.notes() == []
    assert [row["name"] for row in scorer.resources()] == [
        "lexicon/cues", "lexicon/english", "lexicon/ldnoobw", "context", "encoder", "lid.176.ftz", "toxicity",
    ]  # fmt: skip
    assert scorer.score(pa.array([USE, ORDINARY]))["toxicity.stage"].to_pylist() == ["encoder", "fasttext"]


class Second:
    """A second stage that says 0 of everything, and breaks on texts with `boom`."""

    def resource(self) -> dict[str, str]:
        return {"name": "second", "version": "1", "sha256": "", "kind": "model"}

    def probabilities(self, texts: list[str]) -> np.ndarray:
        if any("boom" in text for text in texts):
            raise RuntimeError("out of memory")
        return np.zeros(len(texts))


def test_a_failed_second_stage_gives_nulls_and_a_quarantine_never_a_clean_score() -> None:
    scorer = Scorer(ScoringSettings(), {"toxicity"})
    scorer._cascade = replace(scorer._cascade, detoxify=Second())
    texts = [USE, USE + " boom", ORDINARY]
    columns = scorer.score(pa.array(texts))
    assert columns["toxicity.toxicity"].to_pylist()[:2] == [0.0, None]
    assert columns["toxicity.stage"].to_pylist()[:2] == ["detoxify", None]
    assert columns["toxicity.spans"].to_pylist()[:2] == [[], None]
    assert columns["scoring.failed"].to_pylist() == [None, "toxicity: second stage: RuntimeError", None]
    assert verdicts(scorer, *texts, ruleset="toxicity") == ["keep", "quarantine", "keep"]


class Broken:
    """An encoder that breaks on texts with `boom`."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def read(self, text: str, spans: Any) -> Any:
        if "boom" in text:
            raise RuntimeError("out of memory")
        return self.encoder.read(text, spans)


def test_a_document_the_encoder_fails_on_has_no_score_at_all_and_is_quarantined() -> None:
    scorer = Scorer(ScoringSettings(), {"toxicity", "context"})
    scorer._cascade = replace(scorer._cascade, encoder=Broken(scorer._cascade.encoder))
    columns = scorer.score(pa.array([USE + " boom", ORDINARY]))
    assert {name: column[0].as_py() for name, column in columns.items()} == {
        **dict.fromkeys(columns), "scoring.failed": "encoder: RuntimeError",
    }  # fmt: skip
    assert all(column[1].is_valid for name, column in columns.items() if name != "scoring.failed")
    assert verdicts(scorer, USE + " boom", ORDINARY, ruleset="curated") == ["quarantine", "keep"]


def test_an_encoder_whose_sha256_is_not_its_card_s_is_refused(tmp_path: Path) -> None:
    for name in ("encoder.json", "encoder.onnx", "encoder.tokenizer.json"):
        shutil.copy(WEIGHTS / name, tmp_path / name)
    (tmp_path / "encoder.onnx").write_bytes((tmp_path / "encoder.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="wrong-weights"):
        Scorer(ScoringSettings(encoder_model=str(tmp_path / "encoder.json")), {"context"})


def test_an_unknown_filter_or_a_missing_model_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unscored-filter"):
        Scorer(ScoringSettings(), {"c4"})
    with pytest.raises(ConfigError, match="no-model"):
        Scorer(ScoringSettings(toxicity_model="/nowhere/x.json"), {"toxicity"})
    assert {"blocklist", "toxicity", "sentence", "context"} == scoring.FILTERS_SCORED
