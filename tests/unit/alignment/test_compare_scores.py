"""Scores on disk and in memory: written whole, refused with their place when wrong, paired item by item."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from simulated_run import Measured

from alignment.item_scores import (
    EVALUATION,
    SCORES,
    Metric,
    ScoreRow,
    failures,
    read_metrics,
    read_scores,
    write_evaluation,
    write_metrics,
    write_scores,
)
from alignment.json_rows import read_rows, write_rows
from alignment.run_scores import RunScores, item_values, paired, widened
from alignment.statistics.contrast import Cells
from curation.errors import DataContractError

NAN = math.nan


def row(item: str = "p1", value: float | None = 0.5, **more: object) -> ScoreRow:
    fields: dict[str, object] = {"arm": "raw", "seed": 1, "stage": "sft", "metric": "m", "higher_is_better": False}
    return ScoreRow(**{**fields, "item_id": item, "value": value, **more})  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        row("p1", 0.25, cluster="c", sample=3, weight=7.0),
        row("p2", None, failed="degenerate", higher_is_better=None),
        row("ü – \U0001f600", 1.0, arm="curated", seed=12, stage="ppo", metric="n", higher_is_better=True),
    ]

    assert write_scores(tmp_path / SCORES, rows) == 3

    found = [ScoreRow(**entry) for entry in read_scores(tmp_path / SCORES).to_pylist()]
    assert found == rows
    assert failures(read_scores(tmp_path / SCORES)) == {"degenerate": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [SCORES]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    write_scores(tmp_path / SCORES, [])

    assert read_scores(tmp_path / SCORES).num_rows == 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(value=NAN), "`value` is nan"),
        (row(value=math.inf), "`value` is inf"),
        (row(value=None), "no value and no reason"),
        (row(weight=0.0), "`weight` is 0.0"),
        (row(item=""), "`item_id` is missing"),
    ],
)
def test_a_row_that_says_nothing_is_not_written_and_leaves_no_file(bad: ScoreRow, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=said):
        write_scores(tmp_path / SCORES, [row(), bad])

    assert list(tmp_path.iterdir()) == []


def test_an_item_that_occurs_twice_is_refused_when_written_and_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="occurs twice"):
        write_scores(tmp_path / SCORES, [row(), row()])
    write_rows(tmp_path / SCORES, [vars(row()), vars(row())])
    with pytest.raises(DataContractError, match="1 items occur more than once"):
        read_scores(tmp_path / SCORES)
    write_scores(tmp_path / SCORES, [row(), row(sample=1)])  # two samples of one item are two rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2\n"),
        ('{"arm": "raw"}', "`seed` is missing"),
        ('{"arm":"raw","seed":1,"stage":"s","metric":"m","item_id":"i","value":null}', "no value and no reason"),
        ('{"arm":"raw","seed":1,"stage":"s","metric":"m","item_id":"i","value":"0.5"}', "`value` is '0.5'"),
        ('{"arm":"raw","seed":1,"stage":"s","metric":"m","item_id":"i","value":1,"weight":-1}', "`weight` is -1"),
        ('{"arm":7,"seed":1,"stage":"s","metric":"m","item_id":"i","value":1}', "`arm` is 7"),
    ],
)
def test_a_line_that_breaks_the_contract_is_named_with_its_number(line: str, said: str, tmp_path: Path) -> None:
    good = '{"arm":"raw","seed":1,"stage":"s","metric":"m","item_id":"first","value":0.5}'
    (tmp_path / "scores.jsonl").write_text(f"{good}\n{line}\n")

    with pytest.raises(DataContractError) as error:
        read_scores(tmp_path / "scores.jsonl")

    assert said in str(error.value)
    assert "line 2" in str(error.value)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    write_scores(tmp_path / SCORES, [row(f"p{i}") for i in range(1000)])
    data = (tmp_path / SCORES).read_bytes()
    (tmp_path / SCORES).write_bytes(data[: len(data) // 2])

    with pytest.raises(DataContractError, match="cut short"):
        read_scores(tmp_path / SCORES)


def test_rows_of_any_kind_are_read_with_the_place_of_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, [{"a": 1}, {"b": 2}]) == 2

    assert read_rows(path, []) == [{"a": 1}, {"b": 2}]
    with pytest.raises(DataContractError, match=r"`a` is missing\n  --> .*line 2"):
        read_rows(path, ["a"])
    with pytest.raises(DataContractError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl", [])


def test_an_evaluation_has_the_mean_of_each_endpoint_with_its_interval(tmp_path: Path) -> None:
    values = [0.1, 0.4, 0.3, 0.8]
    scores = {"toxicity.ngram.mean": [Measured(f"p{i}", v) for i, v in enumerate(values)], "bits": [Measured("d", NAN)]}
    declared = {"toxicity.<judge>.mean": ("score", False), "bits": ("bits", False)}
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))

    found = write_evaluation(tmp_path, "raw", 1, "sft", scores, declared)

    assert found == read_metrics(tmp_path / EVALUATION)
    assert found == [
        Metric("toxicity.ngram.mean", 0.4, "score", False, 4, pytest.approx(low), pytest.approx(high), 4, 0),
        Metric("bits", None, "bits", False, 0, None, None, 0, 1),
    ]
    assert failures(read_scores(tmp_path / SCORES)) == {"not_measured": 1}
    with pytest.raises(DataContractError, match="`other` has no unit"):
        write_evaluation(tmp_path, "raw", 1, "sft", {"other": []}, declared)


def test_an_evaluation_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / EVALUATION).write_text('{"metrics": [{"name": "x"}]}')

    with pytest.raises(DataContractError, match="not an evaluation"):
        read_metrics(tmp_path / EVALUATION)


def test_samples_of_an_item_become_one_score_as_asked() -> None:
    rows = [row("a", v, sample=i) for i, v in enumerate((0.2, 0.8))] + [row("b", 0.4), row("c", None, failed="x")]
    column = RunScores.of(rows).column(("raw", 1, "sft"), "m")
    assert column is not None

    totals = {
        (how, cut): item_values(column, how, cut).total.tolist()
        for how in ("mean", "max", "each")
        for cut in (None, 0.5)
    }

    assert totals == {
        ("mean", None): [0.5, 0.4],
        ("mean", 0.5): [0.5, 0.0],
        ("max", None): [0.8, 0.4],
        ("max", 0.5): [1.0, 0.0],
        ("each", None): [1.0, 0.4],
        ("each", 0.5): [1.0, 0.0],
    }
    assert item_values(column, "each", None).count.tolist() == [2.0, 1.0]
    assert item_values(column, "each", None).squares.tolist() == pytest.approx([0.68, 0.16])
    assert item_values(column, "mean", None).item.tolist() == ["a", "b"]


def both_arms() -> RunScores:
    rows = []
    for arm, shift in (("raw", 0.0), ("curated", 1.0)):
        for seed in (1, 2, 3):
            for number, item in enumerate(("a", "b", "c", "d")):
                if (arm, seed) == ("curated", 3):
                    continue  # an arm without this seed
                value = None if (arm, seed, item) == ("curated", 2, "b") else number + shift + seed
                cluster = "x" if item in "ab" else "y"
                rows.append(row(item, value, arm=arm, seed=seed, cluster=cluster, failed="" if value else "timeout"))
    return RunScores.of(rows)


def test_an_item_missing_in_one_arm_is_left_out_of_both_and_counted() -> None:
    found = paired(both_arms(), ("curated", "sft", "m"), ("raw", "sft", "m"), (1, 2, 3))

    assert (found.seeds, found.clusters, found.items) == ((1, 2), ("x", "y"), 4)
    assert (found.pairs, found.incomplete, found.failed) == (7, 1, {"timeout": 1})
    assert found.treatment.weight.tolist() == [[2, 2], [1, 2]]
    assert found.control.weight.tolist() == [[2, 2], [1, 2]]
    assert (found.treatment.total - found.control.total).tolist() == [[2, 2], [1, 2]]


def test_seeds_outside_the_plan_are_not_compared() -> None:
    assert paired(both_arms(), ("curated", "sft", "m"), ("raw", "sft", "m"), (2,)).seeds == (2,)
    assert paired(both_arms(), ("curated", "sft", "m"), ("raw", "ppo", "m"), (1, 2)).seeds == ()


def test_cells_over_more_clusters_keep_their_sums() -> None:
    cells = Cells.of(np.array([[1.0, 2.0]]))

    found = widened(cells, ["b", "d"], ["a", "b", "c", "d"])

    assert found.total.tolist() == [[0, 1, 0, 2]]
    assert found.weight.tolist() == [[0, 1, 0, 1]]


def test_a_metric_without_items_is_one_number_a_model(tmp_path: Path) -> None:
    for arm, value in (("raw", 60.0), ("curated", None)):
        write_metrics(tmp_path / arm / "1" / "sft" / EVALUATION, [Metric("icat", value, "points", True, 0)])
    scores = RunScores.load(tmp_path)
    column = scores.column(("raw", 1, "sft"), "icat")
    missing = scores.column(("curated", 1, "sft"), "icat")

    assert column is not None
    assert missing is not None
    assert (column.value.tolist(), column.item.tolist()) == ([60.0], ["(model)"])
    assert missing.failed == {"no_value": 1}
    assert scores.mean(("raw", 1, "sft"), "icat") == 60.0
    assert (scores.names(), scores.unit("icat"), scores.stages()) == (["icat"], "points", ["sft"])


def test_the_mean_of_rows_is_weighted() -> None:
    scores = RunScores.of([row("a", 1.0, weight=3.0), row("b", 5.0), row("c", None, failed="x")])

    assert scores.mean(("raw", 1, "sft"), "m") == pytest.approx(2.0)
    assert scores.mean(("raw", 1, "sft"), "none") is None


def test_rows_in_another_models_folder_are_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "curated" / "1" / "sft" / SCORES, [row()])

    with pytest.raises(DataContractError, match="rows of `raw/1/sft`"):
        RunScores.load(tmp_path)


def test_files_that_disagree_about_what_is_better_are_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "raw" / "1" / "sft" / SCORES, [row()])
    write_scores(tmp_path / "raw" / "2" / "sft" / SCORES, [row(seed=2, higher_is_better=True)])

    with pytest.raises(DataContractError, match="higher_is_better is True, elsewhere False"):
        RunScores.load(tmp_path)
