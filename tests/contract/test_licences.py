"""Shipped weights are learnt only from sets whose terms let trained weights be given away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

JOBS = ("examples/fit_toxicity.yaml", "examples/fit_context.yaml", "examples/fit_gate.yaml")
CARDS = ("toxicity", "encoder", "context", "gate")


def weights_may_ship(page: str) -> dict[str, bool]:
    """Path of a set → the last column of its line in the data's own page."""
    lines = [line.strip().strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): cells[-1].strip() == "yes" for cells in lines if len(cells) > 5}


@pytest.fixture
def allowed(data: Path) -> dict[str, bool]:
    page = data / "README.md"
    if not page.is_file():
        pytest.skip("the labelled sets are not beside the checkout")
    return weights_may_ship(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("job", JOBS)
def test_the_jobs_that_make_the_shipped_weights_learn_from_sets_that_allow_it(
    job: str, repo: Path, allowed: dict[str, bool]
) -> None:
    sets = yaml.safe_load((repo / job).read_text(encoding="utf-8"))["sets"]
    assert [spec["path"] for spec in sets if not allowed[spec["path"]]] == []


@pytest.mark.parametrize("name", CARDS)
def test_a_card_whose_weights_learnt_from_another_set_says_so_first(
    name: str, repo: Path, allowed: dict[str, bool]
) -> None:
    folder = repo / "classifiers" / "weights"
    card = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    page = (folder / f"{name}.md").read_text(encoding="utf-8")
    wrong = [spec["path"] for spec in card["sets"] if not allowed[spec["path"]]]
    assert ("terms" in card) == bool(wrong)
    assert ("weights: not to be passed on" in page) == bool(wrong)
    assert ("weights: Apache-2.0, like the project" in page) == (not wrong)


def test_the_page_s_verdict_is_read_off_its_last_column() -> None:
    page = "| `a/b.jsonl.zst` | x @1 | MIT | 2 | 1 KiB | t | yes | |yes |\n| `c.zst` | x | NC | 2 | 1 | t | g | | no |"
    assert weights_may_ship(page) == {"a/b.jsonl.zst": True, "c.zst": False}
