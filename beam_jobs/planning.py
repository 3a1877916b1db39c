"""From a job to what would be done: inputs, splits, arms, fingerprints, the path of the run. Runs nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beam_jobs import io, layout, remote
from beam_jobs.config import EXECUTION_ONLY, CurateJob
from beam_jobs.context import RunContext, load_arms
from beam_jobs.tokens import tokenizer_of
from curation.dedup.settings import DedupSettings
from curation.errors import ConfigError, Problem, StageError, unknown_name
from curation.fingerprint import code_version, fingerprint
from curation.ruleset import ResolvedRuleset, merge_rules
from curation.sources import SOURCES, InputSettings, Split, format_of, splits_of
from curation.sources.base import FileOpener

SCORED = frozenset({"blocklist", "toxicity", "sentence", "context"})  # what `classifiers.scoring.Scorer` provides
DOCUMENTS_SETTINGS = ("normalise", "reading", "split_mb", "documents_compression")  # that change documents/
REMOTE_AT_ONCE = 32  # requests for the footers and sizes of remote files: 100,000 of 50 ms in 3 minutes
SIGNATURES = ("ngram", "bands", "rows", "seed", "near")  # settings of the duplicate search that change the index


@dataclass(frozen=True)
class Plan:
    """Everything about a run that can be known before it starts."""

    job: CurateJob
    arms: tuple[ResolvedRuleset, ...]
    inputs: list[dict[str, Any]]  # {uri, bytes, sha256}, sorted by name
    settings: list[InputSettings]  # of each input
    splits: list[tuple[int, Split]]  # (index into `inputs`, split); the position is the shard's number
    fingerprint: str
    passes: dict[str, str]  # pass → fingerprint of all that its output depends on
    run: str

    @property
    def context(self) -> RunContext:
        return RunContext(self.run, self.job, self.arms)


def make_plan(job: CurateJob, where: str) -> Plan:
    """Check the job as a whole and work out what it would do.

    Raises:
        ConfigError: every problem found: inputs that match nothing, arms that clash, signals that nobody provides.
    """
    problems: list[Problem] = []
    arms: tuple[ResolvedRuleset, ...] = ()
    for arm in job.arms:
        try:
            arms += load_arms(job.model_copy(update={"arms": (arm,)}))
        except ConfigError as error:
            problems += error.problems
    problems += _arm_problems(arms, where)
    try:
        merge_rules(arms)
    except ConfigError as error:
        problems += error.problems
    if any(rule.filter.producer == "dedup" for arm in arms for rule in arm.rules):
        try:
            earlier_index(job.dedup)
        except ConfigError as error:
            problems += error.problems
    if job.tokens is not None:
        try:
            tokenizer_of(job.tokens)
        except ConfigError as error:
            problems += error.problems
    files, missing = _files(job, where)
    problems += missing
    formats = {}
    for uri, setting in files:
        try:
            formats[uri] = SOURCES.get(setting.format, where).name if setting.format else format_of(uri)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    splits = _splits(files, formats, job.split_mb << 20)
    inputs = io.identities([uri for uri, _ in files])
    passes = pass_fingerprints(job, arms, inputs, [setting for _, setting in files])
    identity = {key: value for key, value in _job_identity(job).items() if key not in {"dedup", "scoring"}}
    described = [with_file_contents(arm.plain()) for arm in arms]  # dedup and scoring are in the passes' fingerprints
    whole = fingerprint({"passes": passes, "arms": described, "job": with_file_contents(identity)})
    return Plan(job, arms, inputs, [setting for _, setting in files], splits, whole, passes, io.join(job.output, whole))


def _splits(
    files: Sequence[tuple[str, InputSettings]], formats: dict[str, str], target_bytes: int
) -> list[tuple[int, Split]]:
    """The splits of every file, in order. Remote files are asked side by side: an answer takes a round trip or two."""
    opener: FileOpener = io.BeamOpener()

    def of(file: tuple[str, InputSettings]) -> list[Split]:
        return splits_of(file[0], formats[file[0]], opener, target_bytes, file[1])

    remote = any(not io.is_local(uri) for uri, _ in files)
    with ThreadPoolExecutor(REMOTE_AT_ONCE if remote else 1) as pool:
        return [(index, split) for index, found in enumerate(pool.map(of, files)) for split in found]


def check_output(run: str) -> None:
    """Write an object below a remote run and remove it again: credentials that only read are found out before work.

    Raises:
        StageError: cannot-write; what the store said.
    """
    if io.is_local(run):
        return
    uri = io.join(run, "work", "probe")
    try:
        with _quiet_clients():
            io.write_bytes(uri, b"can this be written?\n")
            remote.filesystems(uri).delete([uri])
    except StageError:
        raise
    except Exception as error:  # a client's own class, of which there is no common base
        said = " ".join(str(error).split())[:300]
        raise StageError(Problem("cannot-write", f"cannot write `{uri}`: {said}", "output")) from error


@contextmanager
def _quiet_clients() -> Iterator[None]:
    """Clients of object stores log the stacks of what they then raise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _no_google_credentials(uri: str) -> bool:
    """Whether Google's client would ask for `uri` as nobody, which public buckets allow."""
    if not uri.startswith("gs://") or find_spec("google") is None or find_spec("google.auth") is None:
        return False
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError:
        return True
    return False


def _arm_problems(arms: Sequence[ResolvedRuleset], where: str) -> list[Problem]:
    problems = []
    names = [arm.name for arm in arms]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem("repeated-arm", f"arm `{name}` is given {names.count(name)} times", f"{where}: arms"))
    for arm in arms:
        if arm.sample is not None:
            others = [other.name for other in arms if other.sample is None]
            if arm.sample.match not in others:
                problem = unknown_name(
                    "arm to match", arm.sample.match, others, f"{where}: arms.{arm.name}.sample.match"
                )
                problems.append(problem)
        for rule in arm.rules:
            if rule.filter.producer == "score" and rule.filter.name not in SCORED:
                problems.append(
                    Problem(
                        "no-provider",
                        f"arm `{arm.name}` judges `{rule.prefix}`, but nothing measures filter `{rule.filter.name}`",
                        f"{where}: arms",
                        f"one of the scored filters: {', '.join(sorted(SCORED))}",
                    )
                )
    return problems


def _files(job: CurateJob, where: str) -> tuple[list[tuple[str, InputSettings]], list[Problem]]:
    """Every input file once, sorted by name so that the order in which the job lists them leaves no trace."""
    found: dict[str, InputSettings] = {}
    problems = []
    for index, setting in enumerate(job.inputs()):
        try:
            with _quiet_clients():
                uris = io.input_files(setting.path)
        except StageError as error:
            absent = f"`{setting.path}` matches no file"
            hint = "gcloud auth application-default login" if _no_google_credentials(setting.path) else None
            problems += [
                replace(
                    p,
                    message=absent if p.code == "no-input" else p.message,
                    where=f"{where}: input.{index}",
                    hint=p.hint or (f"there are no Google credentials, so nobody was asking: {hint}" if hint else None),
                )
                for p in error.problems
            ]
        else:
            for uri in uris:
                found.setdefault(uri, setting)
    return sorted(found.items(), key=lambda item: (item[0].rsplit("/", 1)[-1], item[0])), problems


def _job_identity(job: CurateJob) -> dict[str, Any]:
    plain = job.model_dump(mode="json", by_alias=True)
    left_out = {*EXECUTION_ONLY, "input", "arms", "limits"}
    return {key: value for key, value in plain.items() if key not in left_out}


def pass_fingerprints(
    job: CurateJob, arms: Sequence[ResolvedRuleset], inputs: Sequence[dict[str, Any]], settings: Sequence[InputSettings]
) -> dict[str, str]:
    """What each pass's output depends on, so that a new ruleset or threshold finds finished passes of earlier runs.

    Paths are not part of it, file names are: an input without a `source` field takes its name from its file.
    """
    rules = merge_rules(arms)
    plain = _job_identity(job)
    deduplicates = any(rule.filter.producer == "dedup" for rule in rules.values())
    scored = sorted({rule.filter.name for rule in rules.values() if rule.filter.producer == "score"})
    files = [
        {
            "name": item["uri"].rsplit("/", 1)[-1],
            "identity": item["sha256"] or item["checksum"],
            "settings": {k: v for k, v in setting.model_dump(mode="json").items() if k != "path"},
        }
        for item, setting in zip(inputs, settings, strict=True)
    ]
    documents = {"files": files, "code": code_version()} | {k: plain[k] for k in DOCUMENTS_SETTINGS}
    cheap = {
        prefix: {"filter": rule.filter.name, "settings": rule.measured_settings()}
        for prefix, rule in sorted(rules.items())
        if rule.filter.producer == "measure"
    }
    dedup = signatures = None
    if deduplicates:
        signatures = {key: plain["dedup"][key] for key in SIGNATURES}
        # An earlier run is what its manifest says, wherever it lies and whatever `latest` points to today.
        earlier = [manifest["fingerprint"] for _, manifest in earlier_index(job.dedup)]
        dedup = {**plain["dedup"], "against": earlier}
    context = RunContext("", job, tuple(arms))
    # Only where there is such a rule: a job without one keeps its fingerprints.
    lines, with_lines = {}, dedup
    if context.line_rules:
        lines = {"lines": {"min_chars": context.min_line_chars}}
        with_lines = {**(dedup or {}), "lines": {**lines["lines"], "keep": context.copies_kept}}
    return {
        "measure": fingerprint({"documents": documents, "signals": cheap, "dedup": signatures, **lines}),
        "dedup": fingerprint({"documents": documents, "dedup": with_lines}),
        "score": fingerprint(
            {
                "documents": documents,
                "dedup": dedup,
                "filters": scored,
                "scoring": plain["scoring"] if scored else None,
                "all": context.scores_duplicates,
            }
        ),
    }


def with_file_contents(settings: Any) -> Any:
    """Plain settings with every string that names a file or folder replaced by its name and the sha256 of its content.

    A word list, evaluation set or model is what it holds: editing it in place must change the fingerprint, moving it
    must not.
    """
    if isinstance(settings, dict):
        return {key: with_file_contents(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_file_contents(value) for value in settings]
    if not isinstance(settings, str) or not {"/", "."} & set(settings):
        return settings
    path = Path(settings)
    if path.is_file():
        return {"name": path.name, "sha256": io.sha256_of(settings)}
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [{"name": str(file.relative_to(path)), "sha256": io.sha256_of(str(file))} for file in files]
    return settings


# Seconds of one core for a MB of input, and start-up: fitted to docs/results/speed.md (162 MB of real text on 2 cores,
# one `curated` arm: 30 s, 21 of them the classifiers) and, for the rules, 50 MB with the heuristics alone in 7 s.
STARTUP_S = 3.0
CORE_S_PER_MB = {"measure": 1 / 15, "rules": 1 / 21, "dedup": 1 / 40, "score": 1 / 4.3, "arm": 1 / 81}


def cost_estimate(plan: Plan, cores: int) -> dict[str, Any]:
    """What the run would read and about how long it would take on `cores` cores like those of docs/results.

    Returns:
        input_files, input_bytes (as stored), text_bytes (about, decompressed), shards, cores, seconds.
    """
    context = plan.context
    text_bytes = sum(split.bytes for _, split in plan.splits)
    per_mb = CORE_S_PER_MB["measure"] + CORE_S_PER_MB["arm"] * len(plan.arms)
    per_mb += CORE_S_PER_MB["rules"] if context.rules_of("measure") else 0.0
    per_mb += CORE_S_PER_MB["dedup"] if context.deduplicates else 0.0
    per_mb += CORE_S_PER_MB["score"] if context.scored_filters else 0.0
    return {
        "input_files": len(plan.inputs),
        "input_bytes": sum(int(item["bytes"]) for item in plan.inputs),
        "text_bytes": text_bytes,
        "shards": len(plan.splits),
        "cores": cores,
        "seconds": round(STARTUP_S + text_bytes / 1e6 * per_mb / cores, 1),
    }


def earlier_index(dedup: DedupSettings) -> list[tuple[str, dict[str, Any]]]:
    """Manifests of the runs that this one is deduplicated against.

    Raises:
        ConfigError: a run is unfinished or unreadable, or its signatures cannot be compared with this job's.
    """
    wanted = {key: getattr(dedup, key) for key in SIGNATURES}
    found = []
    problems = []
    for run in dedup.against:
        manifest_uri = io.join(run, layout.MANIFEST)
        if not io.exists(manifest_uri):
            problems.append(
                Problem("no-index", f"`{run}` is not a finished run: it has no {layout.MANIFEST}", "dedup.against")
            )
            continue
        manifest = io.read_json(manifest_uri)
        if not manifest["dedup"]:
            problems.append(Problem("no-index", f"no arm of `{run}` deduplicates: it has no hashes", "dedup.against"))
            continue
        theirs = {key: manifest["job"]["dedup"][key] for key in wanted}
        if theirs != wanted:
            problems.append(
                Problem(
                    "other-signatures",
                    f"`{run}` has signatures of other settings",
                    "dedup.against",
                    f"{json.dumps(wanted)}, got {json.dumps(theirs)}",
                )
            )
        found.append((run, manifest))
    if problems:
        raise ConfigError(*problems)
    return found
