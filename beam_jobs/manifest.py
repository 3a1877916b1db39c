"""manifest.json: what a run read, what it wrote, what was removed and why, with a hash for every file.

Counts come from the files' own markers, never from a runner's counters, which over-count on retries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from beam_jobs import layout
from beam_jobs.planning import Plan
from beam_jobs.tokens import token_manifest
from curation.errors import DataContractError, LimitError, Problem
from curation.fingerprint import code_version

SCHEMA_VERSION = 1


def build_manifest(plan: Plan, passes: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        DataContractError: some arm's documents do not add up to what was read.
    """
    shards = len(plan.splits)
    measured = layout.finished(plan.run, "measure", shards)
    decided = [layout.finished(plan.run, name, shards) for name in ("decide", "sample")]
    scored = layout.finished(plan.run, "score", shards)
    dead = sum(int(marker["dead"]) for marker in measured.values())
    documents = sum(int(marker["documents"]) for marker in measured.values())
    arms = {arm.name: _arm(arm.name, arm.plain(), decided) for arm in plan.arms}
    dedup: dict[str, Any] = dict(layout.finished(plan.run, "dedup", 1).get(0, {}))
    files = sorted(
        (
            entry
            for markers in (measured, scored, *decided, {0: dedup})
            for marker in markers.values()
            for entry in marker.get("files", [])
        ),
        key=lambda entry: entry["path"],
    )
    dedup.pop("files", None)
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "code_version": code_version(),
        "job": plan.job.model_dump(mode="json", by_alias=True),
        "inputs": plan.inputs,
        "shards": shards,
        "passes": _with_bytes(passes, measured),
        "pass_fingerprints": plan.passes,
        **_resources(plan),
        "dedup": dedup,
        "documents": documents,
        "dead_letters": dead,
        "arm_order": [arm.name for arm in plan.arms],
        "arms": arms,
        "tokens": token_manifest(plan.job.tokens, plan.run, shards),
        "conservation": {name: _conservation(name, arm, documents, dead) for name, arm in arms.items()},
        "files": files,
    }


def _with_bytes(passes: list[dict[str, Any]], measured: Mapping[int, Any]) -> list[dict[str, Any]]:
    size = sum(int(marker["bytes"]) for marker in measured.values())
    return [{**entry, "bytes": size} for entry in passes]


def _resources(plan: Plan) -> dict[str, Any]:
    """Models and lexicons by hash, and what the classifiers had to say about themselves."""
    from beam_jobs.signals import scorer_of

    context = plan.context
    resources: list[dict[str, Any]] = []
    notes: list[str] = []
    if context.scored_filters:
        scorer = scorer_of(plan.run)
        resources, notes = list(scorer.resources()), list(scorer.notes())
    for rule in context.rules_of("measure"):
        if rule.filter.name == "language":
            from classifiers.language import resources as language_resources

            resources += language_resources(rule.settings)
    return {"resources": resources, "notes": notes}


def _arm(name: str, ruleset: dict[str, Any], decided: list[dict[int, dict[str, Any]]]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    removed_by: Counter[str] = Counter()
    removed_by_filter: Counter[str] = Counter()
    shards, removed = [], []
    for markers in decided:
        for _, marker in sorted(markers.items()):
            counts: dict[str, Any] | None = marker["arms"].get(name)
            if counts is None:
                continue
            for key in ("kept", "redacted", "dropped", "quarantined", "text_bytes"):
                totals[key] += counts[key]
            removed_by.update(counts["removed_by"])
            removed_by_filter.update(counts["removed_by_filter"])
            shards.append(counts["file"])
            removed.append(counts["removed_file"])
    return {
        "ruleset": ruleset,
        "documents": totals["kept"] + totals["redacted"],
        "bytes": totals["text_bytes"],
        **{key: totals[key] for key in ("kept", "redacted", "dropped", "quarantined")},
        "removed_by": dict(sorted(removed_by.items())),
        "removed_by_filter": dict(sorted(removed_by_filter.items())),
        "shards": shards,
        "removed_shards": removed,
    }


def _conservation(name: str, arm: dict[str, Any], documents: int, dead: int) -> dict[str, int]:
    line = {"read": documents + dead, **{key: arm[key] for key in ("kept", "redacted", "dropped", "quarantined")}}
    line["dead"] = dead
    if line["read"] != sum(value for key, value in line.items() if key != "read"):
        raise DataContractError(
            Problem("not-conserved", f"arm `{name}`: {line} does not add up", expected="read = the sum of the rest")
        )
    written = sum(shard["documents"] for shard in arm["shards"])
    if written != arm["documents"]:
        raise DataContractError(
            Problem("not-conserved", f"arm `{name}` wrote {written} documents, decided {arm['documents']}")
        )
    return line


def check_limits(plan: Plan, manifest: Mapping[str, Any]) -> None:
    """Stop a run that lost more than the job allows, naming every limit passed.

    Raises:
        LimitError.
    """
    limits = plan.job.limits
    documents, dead = int(manifest["documents"]), int(manifest["dead_letters"])
    if documents + dead == 0:
        raise LimitError(Problem("no-documents", "the inputs hold not one record", expected="at least one document"))
    problems = []
    if documents + dead >= limits.from_documents or documents == 0:
        problems += _passed("dead letters", dead, documents + dead, limits.max_dead_fraction, "max_dead_fraction")
    if documents >= limits.from_documents:
        for name, arm in manifest["arms"].items():
            problems += _passed(
                f"arm `{name}`: quarantined",
                arm["quarantined"],
                documents,
                limits.max_quarantined_fraction,
                "max_quarantined_fraction",
            )
            for prefix, count in sorted(arm["removed_by_filter"].items()):
                problems += _passed(
                    f"arm `{name}`: removed or redacted by `{prefix}`",
                    count,
                    documents,
                    limits.max_removed_fraction,
                    "max_removed_fraction",
                )
    if problems:
        raise LimitError(*problems)


def _passed(what: str, count: int, of: int, limit: float, setting: str) -> list[Problem]:
    if not of or count / of <= limit:
        return []
    return [
        Problem(
            "limit",
            f"{what}: {count:,} of {of:,} ({count / of:.1%})",
            f"limits.{setting}",
            f"at most {limit:.1%}",
            f"look at what was lost; if it is right, `--set limits.{setting}=1.0`",
        )
    ]
