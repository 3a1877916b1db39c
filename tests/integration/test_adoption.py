"""What a finished run has measured is linked, not made again; what it deduplicated is known to the next crawl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jobs import CHEAP_ARMS, TIDY, copies, corpus, deal, digests, kept_ids, manifest_of, rows_of, run_job, write_jsonl

from curation.errors import ConfigError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(), 3)


def inodes(run: Path, *folders: str) -> dict[str, int]:
    return {
        str(path.relative_to(run)): path.stat().st_ino
        for folder in folders
        for path in sorted((run / folder).iterdir())
    }


MEASURED = ("documents", "index", "work/measured", "dead_letter", "work/markers/measure")
STRICT: dict[str, Any] = {
    "name": "strict",
    "rules": [
        {"filter": "dedup", "settings": {"min_jaccard": 0.9}},
        {"filter": "gopher_quality", "settings": {"min_words": 40, "min_stop_words": None}},
        {"filter": "pii", "action": "drop"},
    ],
}


def test_an_arm_more_and_another_threshold_are_decided_from_what_was_measured(folder: Path, tmp_path: Path) -> None:
    first = run_job([folder / "*.jsonl"], tmp_path / "out")
    arms = [*CHEAP_ARMS, STRICT]
    second = run_job([folder / "*.jsonl"], tmp_path / "out", arms=arms)

    assert first != second
    assert inodes(second, *MEASURED, "duplicates") == inodes(first, *MEASURED, "duplicates")
    assert {entry["name"]: entry["shards_done_now"] for entry in manifest_of(second)["passes"]}["measure"] == 0
    assert digests(second) == digests(run_job([folder / "*.jsonl"], tmp_path / "fresh", arms=arms))
    assert (tmp_path / "out" / "latest").resolve() == second
    assert digests(first) == digests(run_job([folder / "*.jsonl"], tmp_path / "other"))


def test_another_threshold_of_a_classifier_is_decided_from_its_scores(folder: Path, tmp_path: Path) -> None:
    def arms(max_use: float) -> list[Any]:
        return [
            {"name": "mine", "rules": [{"filter": "dedup"}, {"filter": "context", "settings": {"max_use": max_use}}]}
        ]

    first = run_job([folder / "*.jsonl"], tmp_path / "out", arms=arms(0.5))
    second = run_job([folder / "*.jsonl"], tmp_path / "out", arms=arms(0.9))

    assert inodes(second, *MEASURED, "duplicates", "work/scores", "work/markers/score") == inodes(
        first, *MEASURED, "duplicates", "work/scores", "work/markers/score"
    )
    assert digests(second) == digests(run_job([folder / "*.jsonl"], tmp_path / "fresh", arms=arms(0.9)))


def test_another_cheap_filter_is_measured_and_no_classifier_runs_again(folder: Path, tmp_path: Path) -> None:
    curated = {"name": "mine", "rules": [{"filter": "dedup"}, {"filter": "context"}]}
    more = {"name": "more", "rules": [{"filter": "dedup"}, {"filter": "context"}, {"filter": "length"}]}
    first = run_job([folder / "*.jsonl"], tmp_path / "out", arms=[curated])
    second = run_job([folder / "*.jsonl"], tmp_path / "out", arms=[curated, more])

    done = {entry["name"]: entry["shards_done_now"] for entry in manifest_of(second)["passes"]}
    assert (done["measure"], done["dedup"], done["score"]) == (3, 0, 0)
    assert inodes(second, "duplicates", "work/scores") == inodes(first, "duplicates", "work/scores")
    assert digests(second) == digests(run_job([folder / "*.jsonl"], tmp_path / "fresh", arms=[curated, more]))


def test_another_dedup_threshold_links_what_was_measured_and_compares_again(folder: Path, tmp_path: Path) -> None:
    first = run_job([folder / "*.jsonl"], tmp_path / "out")
    second = run_job([folder / "*.jsonl"], tmp_path / "out", dedup={"threshold": 0.95})

    assert inodes(second, *MEASURED) == inodes(first, *MEASURED)
    assert len(copies(second)) < len(copies(first))
    assert digests(second) == digests(run_job([folder / "*.jsonl"], tmp_path / "fresh", dedup={"threshold": 0.95}))


def test_other_settings_of_reading_and_normalising_link_nothing(folder: Path, tmp_path: Path) -> None:
    run_job([folder / "*.jsonl"], tmp_path / "out")
    for given in ({"normalise": False}, {"reading": {"batch_documents": 9}}):
        again = run_job([folder / "*.jsonl"], tmp_path / "out", **given)
        done = {entry["name"]: entry["shards_done_now"] for entry in manifest_of(again)["passes"]}
        assert done["measure"] == 3


def test_a_filter_under_an_alias_is_measured_and_judged_beside_the_other(folder: Path, tmp_path: Path) -> None:
    arm = {
        "name": "both",
        "rules": [
            {"filter": "gopher_quality", "action": "keep"},
            {"filter": "gopher_quality", "as": "datatrove", "settings": {"words": "datatrove", "min_words": 60}},
        ],
    }
    run = run_job([folder / "*.jsonl"], tmp_path, arms=["raw", arm])
    signals = rows_of(run, "signals")
    codes = {reason["code"] for row in rows_of(run, "decisions") for reason in row["reasons"]}

    assert {"gopher_quality.words", "datatrove.words"} <= set(signals[0])
    assert {"gopher_quality.too_few_words", "datatrove.too_few_words"} <= codes
    dropped = {row["doc_id"] for row in signals if row["datatrove.words"] < 60}
    assert dropped
    assert dropped & set(kept_ids(run, "both")) == set()


def test_a_copy_that_an_arm_keeps_is_scored_not_quarantined(folder: Path, tmp_path: Path) -> None:
    """Scores of copies used to be missing in an arm that is laxer than the dedup pass: it quarantined them all."""
    arm = {"name": "exact_only", "rules": [{"filter": "dedup", "settings": {"near": False}}, {"filter": "context"}]}
    run = run_job([folder / "*.jsonl"], tmp_path, arms=["curated", arm])

    assert {row["kind"] for row in copies(run).values()} == {"exact", "near"}
    assert [manifest_of(run)["arms"][name]["quarantined"] for name in ("curated", "exact_only")] == [0, 0]


# --- incremental dedup: a new crawl against finished runs


def crawls() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two crawls that share pages: what stands in both, slightly edited or not, is old."""
    old = corpus(80, seed=1)
    new = corpus(40, seed=2)
    for number, row in enumerate(old[:30]):
        text = row["text"] if number % 2 else row["text"] + " appended"
        new.append({**row, "id": f"again-{number}", "text": text})
    return old, new


def near_or_same(a: str, b: str) -> float:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def test_a_new_crawl_loses_to_what_an_earlier_run_kept_and_says_to_which_document(tmp_path: Path) -> None:
    old, new = crawls()
    first = run_job([write_jsonl(tmp_path / "old.jsonl", old)], tmp_path / "old", arms=["dedup_only"])
    second = run_job(
        [write_jsonl(tmp_path / "new.jsonl", new)],
        tmp_path / "new",
        arms=["dedup_only"],
        dedup={"against": [str(first)]},
    )

    kept_of_old = set(kept_ids(first, "dedup_only"))
    texts = {row["id"]: row["text"] for row in [*old, *new]}
    found = copies(second)
    assert set(found) <= {row["id"] for row in new}
    assert {row["duplicate_of"] for row in found.values()} & kept_of_old
    assert not {row["duplicate_of"] for row in found.values()} & (set(texts) - kept_of_old - {r["id"] for r in new})
    for name, row in found.items():
        assert near_or_same(texts[name], texts[row["duplicate_of"]]) == pytest.approx(row["jaccard"], abs=1e-12)
        assert row["jaccard"] >= 0.8
    # Whatever is exactly a kept old document is gone, and named after it.
    same = {row["text"]: row["id"] for row in old if row["id"] in kept_of_old}
    for row in new:
        if row["text"] in same:
            assert (found[row["id"]]["duplicate_of"], found[row["id"]]["kind"]) == (same[row["text"]], "exact")
    # Oracle: the pages that stay are unlike each other and unlike every kept old page.
    stay = kept_ids(second, "dedup_only")
    for i, name in enumerate(stay):
        for other in [*kept_of_old, *stay[:i]]:
            assert near_or_same(texts[name], texts[other]) < 0.8


def test_two_crawls_in_two_steps_keep_as_much_as_in_one(tmp_path: Path) -> None:
    """The kept copies may differ, the groups may not: every group keeps one document either way."""
    old, new = crawls()
    first = run_job([write_jsonl(tmp_path / "old.jsonl", old)], tmp_path / "old", arms=["dedup_only"])
    second = run_job(
        [write_jsonl(tmp_path / "new.jsonl", new)],
        tmp_path / "new",
        arms=["dedup_only"],
        dedup={"against": [str(first)]},
    )
    at_once = run_job([tmp_path / "old.jsonl", tmp_path / "new.jsonl"], tmp_path / "both", arms=["dedup_only"])

    def groups(*runs: Path) -> set[frozenset[str]]:
        parent = {row["id"]: row["id"] for row in [*old, *new]}

        def root(name: str) -> str:
            while parent[name] != name:
                name = parent[name]
            return name

        for run in runs:
            for name, row in copies(run).items():
                parent[root(name)] = root(row["duplicate_of"])
        members: dict[str, set[str]] = {}
        for name in parent:
            members.setdefault(root(name), set()).add(name)
        return {frozenset(group) for group in members.values()}

    in_steps = set(kept_ids(first, "dedup_only")) | set(kept_ids(second, "dedup_only"))
    together = set(kept_ids(at_once, "dedup_only"))
    assert groups(first, second) == groups(at_once)
    for group in groups(at_once):
        assert (len(group & in_steps), len(group & together)) == (1, 1)


def test_a_run_cannot_be_deduplicated_against_one_without_hashes(folder: Path, tmp_path: Path) -> None:
    plain = run_job([folder / "*.jsonl"], tmp_path / "plain", arms=["raw"])

    with pytest.raises(ConfigError, match=f"no arm of `{plain}` deduplicates"):
        run_job([folder / "*.jsonl"], tmp_path / "new", arms=[TIDY], dedup={"against": [str(plain)]})


def test_an_arm_that_does_not_deduplicate_needs_no_earlier_run(folder: Path, tmp_path: Path) -> None:
    run = run_job([folder / "*.jsonl"], tmp_path, arms=["raw"], dedup={"against": ["nowhere"]})

    assert manifest_of(run)["dedup"] == {}
