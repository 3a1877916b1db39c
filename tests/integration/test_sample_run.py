"""One run over the bundled corpus, scored against its truth file: what was planted is found, the rest stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

REPO = Path(__file__).resolve().parents[2]
TRUTH = REPO / "examples" / "sample_corpus" / "truth.jsonl"
TALK = ("explanation", "quotation", "counter_speech", "reclaimed", "homonym")
pytestmark = pytest.mark.integration


@dataclass
class Outcome:
    """The run, and for every arm: id → verdict, id → reason codes, id → text as the arm carries it."""

    run: Path
    truth: list[dict[str, Any]]
    verdict: dict[str, dict[str, str]]
    codes: dict[str, dict[str, set[str]]]
    text: dict[str, dict[str, str]]

    def ids(self, *kinds: str) -> list[str]:
        return [row["id"] for row in self.truth if "id" in row and row["kind"] in kinds]

    def kept_share(self, arm: str, *kinds: str) -> float:
        ids = self.ids(*kinds)
        return sum(self.verdict[arm][i] in {"keep", "redact"} for i in ids) / len(ids)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    output = tmp_path_factory.mktemp("sample")
    arms = "[raw, dedup_only, blocklist, toxicity, curated, examples/clean.yaml]"
    command = [sys.executable, "-m", "curation", "curate", "examples/curate_sample.yaml", "--quiet"]
    done = subprocess.run(
        [*command, "--set", f"output={output}", "--set", f"arms={arms}"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[-1])
    verdict: dict[str, dict[str, str]] = {}
    codes: dict[str, dict[str, set[str]]] = {}
    for row in pq.read_table(run / "decisions").to_pylist():
        verdict.setdefault(row["ruleset"], {})[row["doc_id"]] = row["verdict"]
        codes.setdefault(row["ruleset"], {})[row["doc_id"]] = {reason["code"] for reason in row["reasons"]}
    text = {
        arm.name: {row["doc_id"]: row["text"] for row in pq.read_table(arm).to_pylist()}
        for arm in sorted((run / "arms").iterdir())
    }
    truth = [json.loads(line) for line in TRUTH.read_text(encoding="utf-8").splitlines()]
    return Outcome(run, truth, verdict, codes, text)


def test_every_record_is_a_document_or_a_dead_letter(outcome: Outcome) -> None:
    broken = [row["broken"] for row in outcome.truth if row["kind"] == "broken"]
    dead = [json.loads(line) for path in (outcome.run / "dead_letter").iterdir() for line in path.open()]

    assert Counter(Path(row["input"]).name for row in dead) == {"mixed.jsonl": len(broken)}
    assert len(outcome.text["raw"]) == len(outcome.truth) - len(broken)
    assert {row["id"] for row in outcome.truth if "id" in row} <= set(outcome.text["raw"])


def test_of_every_pair_of_copies_one_stays(outcome: Outcome) -> None:
    kept = outcome.text["dedup_only"]
    copies = [row for row in outcome.truth if row["kind"] in {"exact_dup", "near_dup"}]

    assert [row["id"] for row in copies if (row["id"] in kept) == (row["of"] in kept)] == []


def test_nothing_but_copies_is_removed_as_a_copy(outcome: Outcome) -> None:
    clusters = {
        i for row in outcome.truth if "of" in row and row["kind"] != "hard_negative" for i in (row["id"], row["of"])
    }
    removed = {i for i, verdict in outcome.verdict["dedup_only"].items() if verdict == "drop"}
    junk = {i for row in outcome.truth for i in [row.get("id")] if i and row["kind"].startswith("junk")}

    assert removed - clusters - junk == set()


def test_other_languages_are_told_apart(outcome: Outcome) -> None:
    foreign = outcome.ids("other_language")
    english = outcome.ids("natural")
    flagged = {i for i, codes in outcome.codes["clean"].items() if "language.other_language" in codes}

    assert len(flagged & set(foreign)) / len(foreign) >= 0.98
    assert len(flagged & set(english)) / len(english) <= 0.005


def test_every_evaluation_item_is_found_where_it_was_pasted_and_nowhere_else(outcome: Outcome) -> None:
    flagged = {i for i, codes in outcome.codes["clean"].items() if any(c.startswith("decontamination.") for c in codes)}

    assert flagged == set(outcome.ids("contamination"))


def test_personal_data_is_masked_and_documentation_addresses_stay(outcome: Outcome) -> None:
    rows = [row for row in outcome.truth if row["kind"] == "pii" and row["id"] in outcome.text["clean"]]

    assert len(rows) >= 55
    for row in rows:
        text = outcome.text["clean"][row["id"]]
        assert [value for value in row["mask"] if value in text] == []
        assert [value for value in row["leave"] if value not in text] == []


@pytest.mark.parametrize("kind", ["menu", "keywords", "repeated_lines", "lorem", "script", "symbols", "table", "short"])
def test_junk_is_dropped(outcome: Outcome, kind: str) -> None:
    assert outcome.kept_share("clean", f"junk_{kind}") <= 0.1


def test_natural_english_stays(outcome: Outcome) -> None:
    copies = {i for row in outcome.truth if "of" in row for i in (row["id"], row["of"])}
    natural = [i for i in outcome.ids("natural") if i not in copies]
    kept = [i for i in natural if i in outcome.text["clean"]]

    assert len(kept) / len(natural) >= 0.97


def test_hostile_use_goes_and_most_talk_about_it_stays(outcome: Outcome) -> None:
    # A floor, not the claim: docs/results has what the models reach on labelled sets.
    assert outcome.kept_share("curated", "toxic_use") <= 0.1
    assert outcome.kept_share("curated", *TALK) >= 0.9


@pytest.mark.parametrize("arm", ["toxicity", "curated"])
def test_a_text_in_another_language_is_not_taken_for_hate(outcome: Outcome, arm: str) -> None:
    """The models are English: to them every German article is the English verb "die"."""
    scored = {
        i: codes for i, codes in outcome.codes[arm].items() if not any(code.startswith("dedup.") for code in codes)
    }
    flagged = [i for i in outcome.ids("other_language") if scored.get(i)]

    assert len(flagged) <= 0.02 * len(outcome.ids("other_language")), flagged[:10]


def test_a_blocklist_removes_what_it_should_keep(outcome: Outcome) -> None:
    """The reason for this project: if this fails, the sample corpus no longer shows the difference."""
    assert outcome.kept_share("blocklist", *TALK) < outcome.kept_share("curated", *TALK) - 0.2
