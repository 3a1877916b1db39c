"""The document gate: what it sees of a document, what it has read, and how it is fitted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from classifiers.base import WEIGHTS
from classifiers.context import ContextReader, Linear
from classifiers.document_gate import NAMES, DocumentGate, gate_features
from classifiers.fit_gate import GateJob, GateSet, fit_gate
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.tokens import Tokens, tokenize
from classifiers.windows import Windows, WindowSettings, cut
from curation.errors import ConfigError
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Hits, Matcher

DEMEANING = frozenset({"slur", "hate_ideology"})
PARAGRAPHS = (
    "The council met on Tuesday.\n\nYou are a muslim, he was told.\n\nAn idiot said that women should leave.\n\n"
    "What a damned shame.\n\nThe bridge is new."
)


@pytest.fixture(scope="module")
def reader() -> ContextReader:
    return ContextReader(load_lexicon("english"), DEMEANING)


def prepared(*texts: str) -> tuple[TextBatch, Tokens, Windows, Hits]:
    batch = TextBatch.of(list(texts))
    tokens = tokenize(batch)
    return batch, tokens, cut(tokens, WindowSettings()), Matcher(load_lexicon("english")).find(batch)


def column(matrix: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(matrix[:, NAMES.index(name)])


def odds(*p: float) -> list[float]:
    return [float(np.log(q / (1 - q))) for q in (min(max(p_, 1e-4), 1 - 1e-4) for p_ in p)]


def test_every_feature_of_a_document_is_what_its_name_says(reader: ContextReader) -> None:
    batch, tokens, windows, hits = prepared(PARAGRAPHS, "A quiet day.", "")
    first = np.array([0.05, 0.15, 0.7, 0.35, 0.02, 0.4])
    assert np.diff(windows.bounds).tolist() == [5, 1, 0]
    found = gate_features(batch, tokens, windows, first, hits, reader)
    assert found.shape == (3, len(NAMES))
    assert {name: column(found, name).tolist() for name in NAMES[:5]} == {
        "highest": pytest.approx(odds(0.7, 0.4, 0)), "second_highest": pytest.approx(odds(0.35, 0, 0)),
        "third_highest": pytest.approx(odds(0.15, 0, 0)), "worst_fifth": pytest.approx(odds(0.7, 0.4, 0)),
        "worst_half": pytest.approx(odds(float(np.mean([0.7, 0.35, 0.15])), 0.4, 0)),
    }  # fmt: skip
    assert column(found, "windows_0.1") == pytest.approx(np.log1p([3, 1, 0]))
    assert column(found, "windows_0.5") == pytest.approx(np.log1p([1, 0, 0]))
    assert column(found, "share_0.3") == pytest.approx([0.4, 1, 0])
    assert column(found, "windows") == pytest.approx(np.log([5, 1, 1]))
    assert column(found, "terms_insult") == pytest.approx(np.log1p([1, 0, 0]))
    assert column(found, "highest_identity") == pytest.approx(odds(0.7, 0, 0))
    assert column(found, "highest_attack") == pytest.approx(odds(0.7, 0, 0))
    assert column(found, "highest_second") == pytest.approx(odds(0.15, 0, 0))
    assert column(found, "windows_identity") == pytest.approx(np.log1p([2, 0, 0]))
    assert column(found, "windows_doubtful_identity") == pytest.approx(np.log1p([2, 0, 0]))
    assert column(found, "short").tolist() == [tokens.bounds[1] < 30, True, True]


def test_a_document_looks_the_same_in_any_batch(reader: ContextReader) -> None:
    texts = [PARAGRAPHS, "A quiet day.", "Kikes, he wrote, and muslims."]

    def features(*chosen: str) -> np.ndarray:
        batch, tokens, windows, hits = prepared(*chosen)
        first = np.array([len(batch[row]) % 7 / 10 for row in windows.row.tolist()])
        return gate_features(batch, tokens, windows, first, hits, reader)

    together = features(*texts)
    assert np.array_equal(together, np.vstack([features(text) for text in texts]))
    assert np.array_equal(together[::-1], features(*texts[::-1]))


def gate_by_highest(reader: ContextReader, windows: int) -> DocumentGate:
    """Chooses documents whose highest window has even odds or more."""
    weight = np.zeros((len(NAMES), 1))
    weight[NAMES.index("highest")] = 1.0
    model = Linear(np.zeros(len(NAMES)), np.ones(len(NAMES)), weight, np.zeros(1))
    return DocumentGate(model, 0.0, windows, reader)


def test_a_chosen_document_is_read_in_its_highest_windows_and_others_only_where_a_demeaning_term_stands(
    reader: ContextReader,
) -> None:
    batch, tokens, windows, hits = prepared(PARAGRAPHS, PARAGRAPHS, PARAGRAPHS)
    first = np.tile([0.1, 0.2, 0.3, 0.2, 0.1], 3)
    first[5:10] = [0.2, 0.6, 0.1, 0.2, 0.5]
    held = np.zeros(15, bool)
    held[10] = True
    two, all_of_them = (
        gate_by_highest(reader, count).asked(batch, tokens, windows, first, hits, held).reshape(3, 5).tolist()
        for count in (2, 9)
    )
    assert two == [[False] * 5, [False, True, False, False, True], [True, True, True, False, False]]
    assert all_of_them == [[False] * 5, [True] * 5, [True] * 5]


def test_the_shipped_gate_belongs_to_the_shipped_first_stage_and_to_no_other(
    reader: ContextReader, tmp_path: Path
) -> None:
    card = json.loads((WEIGHTS / "gate.json").read_text(encoding="utf-8"))
    first = json.loads((WEIGHTS / "toxicity.json").read_text(encoding="utf-8"))["files"]["toxicity.ftz"]
    assert card["first_stage"] == first
    assert DocumentGate.load(WEIGHTS / "gate.json", first, reader) is not None
    assert DocumentGate.load(WEIGHTS / "gate.json", "0" * 64, reader) is None

    (tmp_path / "gate.json").write_text(json.dumps(card | {"first_stage": "0" * 64}), encoding="utf-8")
    scorer = Scorer(ScoringSettings(gate_model=str(tmp_path / "gate.json")), {"context"})
    (note,) = scorer.notes()
    assert note.startswith("the document gate was fitted over another first stage; instead of it windows from 0.")
    assert "gate" not in {row["name"] for row in scorer.resources()}


@pytest.mark.parametrize("given", [{}, {"gate_model": "shipped", "second_stage_from": 0.4}])
def test_without_a_gate_or_with_a_bound_of_one_s_own_the_first_stage_s_probability_decides(
    given: dict[str, object],
) -> None:
    scorer = Scorer(ScoringSettings.model_validate(given), {"toxicity"})
    assert scorer._cascade.gate is None
    assert scorer._cascade.low == given.get("second_stage_from", 0.5101)
    assert (scorer.notes(), "gate" in {row["name"] for row in scorer.resources()}) == ([], False)


def test_a_gate_that_is_asked_for_decides_and_is_named_among_the_resources() -> None:
    texts = pa.array(["I hate all of them, muslims are parasites.", "Women and men, muslims or not, met.", "A bridge."])
    plain, gated = (Scorer(ScoringSettings(gate_model=name), {"toxicity"}) for name in ("none", "shipped"))
    assert gated._cascade.gate is not None
    assert {row["name"] for row in gated.resources()} - {row["name"] for row in plain.resources()} == {"gate"}
    assert gated.score(texts)["toxicity.stage"].to_pylist()[::2] == ["encoder", "fasttext"]


def test_a_gate_without_a_card_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no-model"):
        Scorer(ScoringSettings(gate_model="/nowhere/gate.json"), {"context"})


def ordinary(folder: Path, count: int) -> None:
    """Every fifth document is toxic and every tenth hateful as well, in words of which no two are the same text."""
    kinds = {
        0: "I hate all muslims, they are filthy parasites and must be thrown out of this country.",
        5: "This fucking printer is a piece of shit, fuck this damn shit.",
    }
    harmless = "The council met on the river to talk about the bridge."
    rows = [{"id": k, "text": f"{kinds.get(k % 10, harmless)} Page {k}."} for k in range(count)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


def job_over(folder: Path, **more: object) -> GateJob:
    return GateJob(
        kind="fit", classifier="gate", data=str(folder), output=str(folder / "out"),
        sets=tuple(GateSet(path="text.jsonl", licence="MIT", step=2, offset=offset) for offset in (0, 1)),
        budget=0.3, budget_sets=("text.jsonl",), budget_step=1,
    ).model_copy(update=more)  # fmt: skip


def test_a_fitted_gate_reads_what_is_hateful_or_toxic_and_keeps_to_its_budget(tmp_path: Path) -> None:
    ordinary(tmp_path, 200)
    card = fit_gate(job_over(tmp_path))
    assert card["rows"] == {"documents": 200, "hateful": 20, "toxic": 20}
    assert card["metrics"]["toxic"]["value"] == 1.0
    again = (tmp_path / "out" / "gate.json").read_bytes()
    fit_gate(job_over(tmp_path))
    assert (tmp_path / "out" / "gate.json").read_bytes() == again

    texts = [json.loads(line)["text"] for line in (tmp_path / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    scorer = Scorer(ScoringSettings(gate_model=str(tmp_path / "out" / "gate.json")), {"toxicity"})
    read = np.asarray(scorer.score(pa.array(texts))["toxicity.stage"]) == "encoder"
    assert read.mean() <= 0.3
    assert read[::5].all()
    assert "# Model card: gate" in (tmp_path / "out" / "gate.md").read_text(encoding="utf-8")


def test_text_in_which_nothing_is_found_cannot_teach_a_gate(tmp_path: Path) -> None:
    ordinary(tmp_path, 4)
    (tmp_path / "text.jsonl").write_text('{"id": 1, "text": "A quiet day."}\n{"id": 2, "text": "Another."}\n')
    with pytest.raises(ConfigError, match=r"(?s)nothing-to-learn.*hateful"):
        fit_gate(job_over(tmp_path))


def test_a_budget_that_terms_alone_exceed_is_refused(tmp_path: Path) -> None:
    ordinary(tmp_path, 200)
    slurs = "\n".join(json.dumps({"id": k, "text": f"The word kike, line {k}."}) for k in range(10))
    (tmp_path / "terms.jsonl").write_text(slurs + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)bad-value.*100\.0 % of ordinary documents"):
        fit_gate(job_over(tmp_path, budget_sets=("terms.jsonl",)))
