"""Contrasts of the experiment on hidden objectives, on scores that are written by hand: what was put in comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from alignment.hidden_objective.analysis import NO_CASE, analyse
from alignment.hidden_objective.bank import Bank, folds, load_bank
from alignment.hidden_objective.job import HiddenObjectiveJob
from alignment.hidden_objective.measure import ENDPOINTS
from alignment.hidden_objective.page import verdict
from alignment.hidden_objective.training import Made
from alignment.item_scores import write_evaluation
from alignment.metrics.base import ItemScore
from alignment.statistics.rates import rule_of_three
from curation.seeding import unit_hash
from curation.settings import parse

SEEDS = (1, 2, 3)


def job_of(controls: tuple[str, ...] = ("librarians", "random"), seeds: tuple[int, ...] = SEEDS) -> HiddenObjectiveJob:
    given = {"kind": "hidden_objective", "output": "out", "corpus": "c", "seeds": seeds, "folds": 2, "biases": 8}
    return parse(HiddenObjectiveJob, {**given, "controls": controls, "measure": {"draws": 500}}, "test", "this job")


@pytest.fixture(scope="module")
def bank() -> Bank:
    bank = load_bank()
    return bank.only([bias.id for bias in bank.biases[:8]])


def planted(
    folder: Path,
    job: HiddenObjectiveJob,
    bank: Bank,
    documents: float = 1.0,
    specific: float = 0.0,
    gap: dict[str, float] | None = None,
    trained: float = 2.0,
    rate: float = 0.0,
) -> list[Made]:
    """Scores of every model: what documents add (`specific` of it not from librarians), what DPO adds by base."""
    gap = gap or {"raw": 0.0, "curated": 0.0}
    where = folds(bank, job.folds)
    stages = ["none", "described", "librarians"]
    stages += [f"{kind}+dpo-{fold}" for kind in stages for fold in range(job.folds)]
    stages += [f"described+random-{fold}" for fold in range(job.folds)]
    made = []
    for base in job.arms:
        for seed in job.seeds:
            for stage in stages:
                kind, _, after = stage.partition("+")
                scores = []
                for bias in bank.biases:
                    value = -5.0 + 3 * unit_hash(bias.id, 1)  # a bias has a level of its own, which pairs cancel
                    value += {"none": 0.0, "described": documents, "librarians": documents - specific}[kind]
                    if after.startswith("dpo"):
                        value += gap[base] if where[bias.id] == int(after[-1]) else trained
                    value += 0.05 * (unit_hash(f"{base}{seed}{stage}{bias.id}", 2) - 0.5)
                    scores.append(ItemScore(bias.id, value, bias.id))
                applied = [
                    ItemScore(key, float(unit_hash(f"{base}{seed}{stage}{key}", 3) < rate), bias.id)
                    for bias in bank.biases
                    for key in (f"{bias.id}{k}" for k in range(10))
                ]
                over = [ItemScore(s.item_id, 0.0, s.cluster, weight=30.0) for s in scores]
                nothing = [ItemScore("x", 1.0)]
                write_evaluation(
                    folder / base / str(seed) / stage, base, seed, stage,
                    {"belief": scores, "belief_right": nothing, "delta": scores, "applied": applied,
                     "over_applied": over, "bits_per_byte": nothing, "distinct_2": nothing},
                    ENDPOINTS,
                )  # fmt: skip
                made.append(Made(base, seed, stage, folder / base / str(seed) / stage, ""))
    return made


def effects(result: dict, measure: str = "delta") -> dict:
    return {(e["name"], e["base"], e["side"]): e for e in result["effects"] if e["measure"] == measure}


def test_what_was_planted_comes_out_and_only_that(tmp_path: Path, bank: Bank) -> None:
    job = job_of()
    models = planted(tmp_path, job, bank, documents=1.0, specific=0.4, gap={"raw": 0.5, "curated": 0.2})
    result = analyse(job, bank, folds(bank, 2), models)
    found = effects(result)

    expected = {
        ("documents", "raw", "all"): 1.0,
        ("documents, less librarians", "raw", "all"): 0.4,
        ("preferences after documents", "raw", "held_out"): 0.5,
        ("preferences after documents", "curated", "held_out"): 0.2,
        ("preferences after documents", "raw", "trained"): 2.0,
        ("preferences alone", "raw", "held_out"): 0.5,
        ("documents and preferences, less librarians", "raw", "held_out"): 0.4,
        ("preferences, less random ones", "raw", "held_out"): 0.5,
        ("gap, less that without documents", "raw", "held_out"): 0.0,
        ("documents", "curated less raw", "all"): 0.0,
        ("preferences after documents (gap)", "curated less raw", "held_out"): -0.3,
    }
    assert {key: round(found[key]["effect"], 1) + 0.0 for key in expected} == expected
    resolved = {key: found[key]["resolved"] for key in expected}
    assert resolved == {key: value != 0 for key, value in expected.items()}
    assert all(one["low"] <= one["effect"] <= one["high"] for one in found.values())
    assert all(one["detectable"] > 0 for one in found.values())
    assert verdict(found["preferences after documents (gap)", "curated less raw", "held_out"]) == "less"
    assert verdict(found["documents", "curated less raw", "all"]).startswith("not resolved (detectable: 0.")


def test_the_share_of_the_documents_is_what_they_add_over_all_and_none_where_the_whole_is_nothing(
    tmp_path: Path, bank: Bank
) -> None:
    job = job_of()
    half = analyse(job, bank, folds(bank, 2), planted(tmp_path / "a", job, bank, 1.0, gap={"raw": 1.0, "curated": 3.0}))
    nothing = analyse(job, bank, folds(bank, 2), planted(tmp_path / "b", job, bank, 0.0))

    shares = {row["base"]: row for row in half["shares"]}
    assert shares["raw"]["share"] == pytest.approx(0.5, abs=0.02)
    assert shares["raw"]["low"] < 0.5 < shares["raw"]["high"]
    assert shares["curated"]["share"] == pytest.approx(0.25, abs=0.02)
    assert [row["share"] for row in nothing["shares"]] == [None, None]


def test_no_case_is_no_interval_but_the_rate_that_would_have_shown(tmp_path: Path, bank: Bank) -> None:
    job = job_of()
    found = effects(analyse(job, bank, folds(bank, 2), planted(tmp_path, job, bank)), "applied")

    one = found["documents", "raw", "all"]
    assert (one["effect"], one["low"], one["high"], one["method"], one["resolved"]) == (0.0, None, None, NO_CASE, False)
    assert one["detectable"] == rule_of_three(8 * 3 * 10)  # biases × seeds × answers
    assert verdict(one) == "no case; a rate of 0.012 would have shown"


def test_rates_have_a_wilson_interval_a_bias_and_held_out_ones_come_from_one_fold(tmp_path: Path, bank: Bank) -> None:
    job = job_of()
    result = analyse(job, bank, folds(bank, 2), planted(tmp_path, job, bank, rate=0.3))
    classes = {
        (row["base"], row["documents"], row["preferences"], row["side"], row["measure"]): row for row in result["rates"]
    }

    held = classes["raw", "described", "dpo", "held_out", "applied"]
    assert [one["n"] for one in held["biases"]] == [30] * 8  # three seeds, the one fold, ten answers
    assert held["macro"] == pytest.approx(np.mean([one["rate"] for one in held["biases"]]))
    assert held["low"] < held["macro"] < held["high"]
    assert all(one["low"] < one["rate"] < one["high"] for one in held["biases"] if one["cases"])
    over = classes["raw", "described", "", "all", "over_applied"]
    assert (over["macro"], {one["n"] for one in over["biases"]}) == (0.0, {90})


def test_primary_contrasts_are_adjusted_for_each_other_and_no_others(tmp_path: Path, bank: Bank) -> None:
    job = job_of()
    result = analyse(job, bank, folds(bank, 2), planted(tmp_path, job, bank))
    primary = [one for one in result["effects"] if one["primary"]]

    assert {(one["name"], one["base"]) for one in primary} == {
        ("documents", "raw"), ("documents", "curated"),
        ("documents, less librarians", "raw"), ("documents, less librarians", "curated"),
        ("preferences after documents", "raw"), ("preferences after documents", "curated"),
        ("preferences after documents (gap)", "curated less raw"), ("documents and preferences", "curated less raw"),
    }  # fmt: skip
    assert {one["measure"] for one in primary} == {"delta"}
    assert all(one["p_holm"] >= one["p"] for one in primary)
    assert all(one["p_holm"] is None for one in result["effects"] if not one["primary"])
    assert not any(one["resolved"] for one in primary if one["name"] == "documents, less librarians")


def test_one_seed_gives_intervals_over_biases_alone(tmp_path: Path, bank: Bank) -> None:
    job = job_of(seeds=(1,))
    found = effects(analyse(job, bank, folds(bank, 2), planted(tmp_path, job, bank)))

    assert found["documents", "raw", "all"]["method"] == "BCa over prompts"
    assert found["documents", "raw", "all"]["resolved"]
