"""`list`: everything registered is listed, with one line each."""

from __future__ import annotations

import json

import pytest

from curation.cli import main
from curation.filters import FILTERS
from curation.listing import CLASSIFIERS, KINDS, classifiers
from curation.ruleset import shipped_rulesets
from curation.sources import SOURCES

NAMES = {"filters": FILTERS.names(), "rulesets": shipped_rulesets(), "formats": SOURCES.names()}


@pytest.mark.parametrize("what", sorted(NAMES))
def test_everything_registered_has_one_line(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0

    assert [line.split("  ", 1)[0] for line in capsys.readouterr().out.splitlines()] == NAMES[what]


@pytest.mark.parametrize("what", KINDS)
def test_every_list_is_json_with_name_and_summary(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0

    assert all(row["name"] and row["summary"] for row in json.loads(capsys.readouterr().out))


def test_every_listed_classifier_is_a_module_of_the_package() -> None:
    assert [row["name"] for row in classifiers()] == sorted(CLASSIFIERS)


def test_a_filter_says_its_signals_codes_and_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "filters", "--json"])
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}["context"]

    assert {reason["code"] for reason in found["reasons"]} == {"context.use", "context.hateful"}
    assert {signal["name"] for signal in found["signals"]} >= {"max_use", "document_use", "mentions"}
    assert found["measured_by"] == "score"


def test_verbose_prints_thresholds_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "filters", "--verbose"])

    assert "    reason blocklist.listed_word: blocklist.hits > 0: holds a word of the list" in capsys.readouterr().out


def test_stages_stand_in_the_order_in_which_they_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stages"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["pretrain", "sft", "reward", "ppo", "dpo", "kto"]
    assert all(len(line.split()) > 4 for line in lines)


def test_every_registered_metric_is_listed_without_loading_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "metrics", "--json"]) == 0
    listed = [row["name"] for row in json.loads(capsys.readouterr().out)]

    pytest.importorskip("torch", reason="needs the extra `train`")
    from alignment.metrics import METRICS

    assert listed == METRICS.names()
