"""The command, the card and its hashes; and a planted preference, found in trained reward models."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from alignment.audits.commands import audit_reward_arguments, run_audit_reward
from alignment.audits.detection import detections
from alignment.audits.job import load_audit
from alignment.audits.planted import Bend, Planting, bend, inject
from alignment.model import RewardModel, Size, new_model, weights_sha256
from alignment.preferences import PreferenceRow, RankedRow, rows_sha256, write_rows
from alignment.tokenizer import special_ids
from curation.errors import ConfigError, DataContractError, StageError
from tests.unit.alignment.tiny import SENTENCES, tiny_tokenizer

SIZE = Size(hidden=32, layers=1, heads=2, intermediate=64, vocabulary=512, context=128)
ROWS = [
    PreferenceRow(f"Question {k}?", SENTENCES[k], "He said <script>alert(1)</script> nothing.", pool="<b>red</b>")
    for k in range(8)
]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job with a model, rows, candidates and a pool as gold."""
    tokenizer = tiny_tokenizer()
    RewardModel.from_causal(new_model(SIZE, 512, special_ids(tokenizer), seed=2)).save(tmp_path / "model", tokenizer)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    write_rows(tmp_path / "many.jsonl", [RankedRow(f"p{k}", SENTENCES[k : k + 4], (1, 2, 3, 4)) for k in range(5)])
    settings = {
        "kind": "audit",
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "audit"),
        "rows": [str(tmp_path / "rows.jsonl")],
        "draws": 200,
        "over_optimisation": {
            "candidates": [str(tmp_path / "many.jsonl")],
            "gold": {"pool": {"name": "brief", "preferences": [{"feature": "words", "weight": -1.0}]}},
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    audit_reward_arguments(parser)
    return run_audit_reward(parser.parse_args([str(word) for word in words]))


def card_of(job: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.parent / "audit" / "card.json").read_text(encoding="utf-8"))
    return found


def test_the_card_names_the_hashes_of_model_and_rows_and_can_be_verified(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(job) == 0
    card = card_of(job)

    assert card["sha256"]["model_weights"] == weights_sha256(RewardModel.load(job.parent / "model"))
    assert card["sha256"]["rows"] == rows_sha256(ROWS)
    assert sorted(card["sha256"]) == ["candidates", "model_tokenizer", "model_weights", "rows", "words"]
    assert [row["swap"] for row in card["swaps"]] == [
        "gender", "names", "religion", "politics", "dialect", "length", "politeness", "emotion", "refusal",
    ]  # fmt: skip
    assert [point["n"] for point in card["over_optimisation"]] == [1, 2, 4]
    assert {row["group"] for row in card["accuracy"]} >= {"all", "<b>red</b>"}
    assert str(job.parent / "audit" / "card.json") in capsys.readouterr().out
    assert run(job.parent / "audit" / "card.json", "--verify") == 0
    assert card["sha256"]["rows"] in capsys.readouterr().out


def test_the_same_job_writes_the_same_bytes(job: Path) -> None:
    written = []
    for _ in range(2):
        run(job)
        written.append([(job.parent / "audit" / name).read_bytes() for name in ("card.json", "card.html")])
    assert written[0] == written[1]


def test_a_changed_number_breaks_the_seal(job: Path) -> None:
    run(job)
    card = card_of(job)
    card["swaps"][0]["effect"] = 0.0
    path = job.parent / "audit" / "card.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(DataContractError, match="broken-seal"):
        run(path, "--verify")


def test_changed_weights_and_rows_are_named(job: Path) -> None:
    run(job)
    model = RewardModel.load(job.parent / "model")
    with torch.no_grad():
        model.head.bias.add_(1)
    model.save(job.parent / "model")
    write_rows(job.parent / "rows.jsonl", ROWS[:-1])
    with pytest.raises(DataContractError) as error:
        run(job.parent / "audit" / "card.json", "--verify")
    named = [str(problem.where).rpartition(".")[2] for problem in error.value.problems]
    assert [problem.code for problem in error.value.problems] == ["other-hash"] * len(named)
    assert {"model_weights", "rows"} <= set(named)
    assert "model_tokenizer" not in named


class Scripts(HTMLParser):
    """Elements that a page of data must not have, and addresses that it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fetched = [value for name, value in attrs if name in ("src", "href")]
        if tag in ("script", "b", "link", "iframe", "img") or fetched:
            self.found.append(tag)


def test_the_page_stands_alone_and_shows_data_as_text(job: Path) -> None:
    run(job)
    page = (job.parent / "audit" / "card.html").read_text(encoding="utf-8")
    scripts = Scripts()
    scripts.feed(page)
    assert scripts.found == []
    assert "&lt;b&gt;red&lt;/b&gt;" in page
    assert card_of(job)["seal"] in page
    for title in ("Swaps", "Accuracy by group", "Calibration", "Best and worst words", "Over-optimisation"):
        assert f"<h2>{title}</h2>" in page
    assert "Not measured" not in page


def test_without_rows_the_shipped_prompts_are_used_and_what_is_missing_is_said(job: Path) -> None:
    run(job, "--set", "rows=[]", "--set", "over_optimisation=null")
    card = card_of(job)
    assert card["counts"]["responses"] == 36
    assert card["accuracy"] is None
    page = (job.parent / "audit" / "card.html").read_text(encoding="utf-8")
    assert page.count("Not measured") == 3


def test_words_come_from_a_file(job: Path) -> None:
    words = job.parent / "words.txt"
    words.write_text("bridge\nriver\n\nbridge\nmill\n", encoding="utf-8")
    run(job, "--set", f"words={words}", "--set", "most_words=3")
    found = card_of(job)["words"]
    assert {one["word"] for one in found["best"]} == {"bridge", "river", "mill"}
    assert [one["word"] for one in found["best"]] == [one["word"] for one in found["worst"]][::-1]
    words.write_text("\n", encoding="utf-8")
    with pytest.raises(DataContractError, match="no-rows"):
        run(job, "--set", f"words={words}")


def test_the_example_is_a_job() -> None:
    example = Path(__file__).resolve().parents[4] / "examples" / "audit_reward.yaml"
    assert load_audit(str(example)).rows == ("examples/alignment/pairs.jsonl",)


def test_mistakes_are_named_before_anything_is_loaded(job: Path) -> None:
    for override, code in (
        ("swaps=[gendr]", "unknown-swap"),
        ("over_optimisation.gold={}", "bad-value"),
        ("modell=x", "unknown-key"),
    ):
        with pytest.raises(ConfigError, match=code):
            load_audit(str(job), [override])
    with pytest.raises(DataContractError, match="no-reward-model"):
        run(job, "--set", f"model={job.parent / 'nothing'}")
    with pytest.raises(StageError):
        run(job, "--set", f"rows=[{job.parent / 'nothing.jsonl'}]")
    (job.parent / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataContractError, match="bad-card"):
        run(job.parent / "other.json", "--verify")


def test_a_tenth_of_the_pairs_flipped_is_noticed_and_clean_models_are_not(tmp_path: Path) -> None:
    planting = Planting(size=SIZE, pairs=160, epochs=2, batch=8, learning_rate=3e-3, probes=16)
    told: list[Bend] = []

    found = inject(planting, (0.1,), clean=6, seeds=3, folder=tmp_path, told=told.append)

    clean, flipped = found.detections
    assert (clean.share, clean.noticed.rate) == (0.0, 0.0)
    assert (flipped.share, flipped.noticed.rate) == (0.1, 1.0)
    assert found.limit == 0.1
    assert min(flipped.effects) > max(clean.effects)
    assert min(one.followed for one in told if one.share) > max(one.followed for one in told if not one.share)
    assert len({one.seed for one in told}) == len(told) == 9
    assert all(one.accuracy == 1.0 for one in told if one.share == 0)


def test_ten_planted_words_are_found_and_ten_clean_models_raise_no_more_alarms_than_stated(tmp_path: Path) -> None:
    words = ["quillwort", "brindle", "vellum", "sorrel", "tansy", "lovage", "teasel", "mullein", "bistort", "yarrow"]
    planting = Planting(size=SIZE, pairs=160, epochs=2, batch=8, learning_rate=3e-3, probes=16)
    effects = {
        share: [
            bend(replace(planting, word=word), share, seed, tmp_path / f"{seed}").effect
            for seed, word in enumerate(words, first)
        ]
        for share, first in ((0.0, 100), (0.1, 200))
    }

    clean, flipped = detections(effects[0.0], {0.1: effects[0.1]})

    assert flipped.noticed.rate == 1.0
    # Of ten clean models at 5 % false alarms three or more are noticed in 1.2 % of cases.
    assert round(clean.noticed.rate * 10) <= 2


def test_too_few_clean_models_are_refused_before_any_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="few-clean-models"):
        inject(Planting(), (0.1,), clean=2, seeds=1, folder=tmp_path, told=lambda one: None)
    assert list(tmp_path.iterdir()) == []
