"""A curation run from plan to manifest: measure → dedup → score → decide, each resumed where it stopped.

The manifest is written last: a run without one is unfinished, whatever lies in its folder.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any

from beam_jobs import io, layout
from beam_jobs.context import RunContext, save_job
from beam_jobs.dataflow import check_dataflow
from beam_jobs.decide import sample_thresholds
from beam_jobs.dedup import IndexShard, run_dedup
from beam_jobs.job_server import job_server
from beam_jobs.line_dedup import run_line_dedup
from beam_jobs.manifest import build_manifest, check_limits
from beam_jobs.measure import plan_tasks
from beam_jobs.planning import Plan, earlier_index
from beam_jobs.progress import Progress
from beam_jobs.runners import RunnerSettings, Task, reuse_memory, run_tasks
from curation.errors import ConfigError, Problem

# Below this much text a Python-heavy pass finishes sooner in threads: starting two worker processes and loading
# Beam, the kernels and the models into them costs 8 processor seconds (measured: 57 MB scored in 6.2 s, not 8.4 s).
PROCESSES_FROM_BYTES = 256 << 20
FIRST_EARLIER_SHARD = 1 << 31  # shard numbers of the runs deduplicated against: no run has so many of its own


@dataclass
class Run:
    """The state of one execution."""

    plan: Plan
    runner: RunnerSettings
    progress: Progress
    passes: list[dict[str, Any]]

    @property
    def context(self) -> RunContext:
        return self.plan.context

    @property
    def uri(self) -> str:
        return self.plan.run


def curate(plan: Plan, beam_options: tuple[str, ...] = (), progress: Progress | None = None) -> str:
    """Run every pass that is not finished; returns the run's path.

    Raises:
        ConfigError: the path holds a run of another fingerprint. StageError: a pass could not finish.
    """
    reuse_memory()
    progress = progress or Progress()
    workers = plan.job.workers or os.cpu_count() or 1
    run = Run(plan, RunnerSettings(workers, beam_options), progress, [])
    manifest_uri = io.join(plan.run, layout.MANIFEST)
    if io.exists(manifest_uri):
        found = io.read_json(manifest_uri).get("fingerprint")
        if found != plan.fingerprint:
            problem = Problem(
                "other-fingerprint",
                f"`{plan.run}` holds a run of another fingerprint",
                None,
                f"{plan.fingerprint}, got {found}",
                "move it away, or choose another `output`",
            )
            raise ConfigError(problem)
        progress.say(f"{plan.run} is finished already")
        _point_latest(plan)
        return plan.run
    check_dataflow(beam_options, plan.run, [item["uri"] for item in plan.inputs])
    with io.only_process(plan.run), job_server(beam_options) as options:
        run.runner = RunnerSettings(workers, options)
        _run_passes(run, manifest_uri)
    _point_latest(plan)
    return plan.run


def _run_passes(run: Run, manifest_uri: str) -> None:
    plan = run.plan
    io.remove_temporaries(plan.run)
    save_job(plan.run, plan.job, plan.arms)
    _adopt_finished_passes(run)
    _measure(run)
    _dedup(run)
    _score(run)
    _decide(run)
    _tokens(run)
    io.remove_temporaries(plan.run)  # of workers killed on the way, whose shards another has finished
    manifest = build_manifest(plan, run.passes)
    check_limits(plan, manifest)
    _write_report(plan, manifest)
    for folder in ("tasks", "errors", "sample", "dedup"):
        io.remove_tree(io.join(plan.run, "work", folder))
    io.write_json(manifest_uri, manifest, indent=1)


def _map_pass(run: Run, name: str, function: str, tasks: list[Task], extra: dict[str, Any], heavy: bool) -> None:
    """Run the unfinished tasks of a pass whose tasks leave markers."""
    started = time.monotonic()
    total = len(run.plan.splits)
    finished = layout.finished(run.uri, name, total)
    todo = [task for task in tasks if task["shard"] not in finished]
    weights = {task["shard"]: float(task["weight"]) for task in todo}
    if todo:
        heavy = heavy and sum(weights.values()) >= PROCESSES_FROM_BYTES
        with run.progress.watching(name, run.uri, len(todo), sum(weights.values()), weights):
            run_tasks(name, run.uri, todo, function, extra, run.runner, heavy)
    markers = layout.finished(run.uri, name, total)
    _record(run, name, started, sum(int(m.get("documents", 0)) for m in markers.values()), len(todo))


def _record(run: Run, name: str, started: float, documents: int, done: int) -> None:
    run.passes.append(
        {"name": name, "wall_s": round(time.monotonic() - started, 3), "documents": documents, "shards_done_now": done}
    )


def _measure(run: Run) -> None:
    tasks = plan_tasks(run.uri, run.plan.splits, run.plan.settings)
    _map_pass(run, "measure", "beam_jobs.measure:measure_shard", tasks, {}, heavy=_measures_in_python(run.context))


def _measures_in_python(context: RunContext) -> bool:
    # Reading, normalising, hashing and writing run outside the GIL; filters may not.
    return bool(context.rules_of("measure"))


def _shard_tasks(run: Run) -> list[Task]:
    markers = layout.finished(run.uri, "measure", len(run.plan.splits))
    return [
        {"run": run.uri, "shard": shard, "weight": int(marker["bytes"]) + 1}
        for shard, marker in sorted(markers.items())
    ]


def _dedup(run: Run) -> None:
    if not run.context.deduplicates:
        return
    started = time.monotonic()
    done = layout.finished(run.uri, "dedup", 1)
    if done:
        _record(run, "dedup", started, int(done[0]["documents"]), 0)
        return
    io.remove_tree(io.join(run.uri, "work", "dedup"))
    markers = layout.finished(run.uri, "measure", len(run.plan.splits))
    shards = [
        IndexShard(
            shard,
            io.join(run.uri, layout.index(shard)),
            io.join(run.uri, layout.documents(shard)),
            int(marker["documents"]),
            False,
        )
        for shard, marker in sorted(markers.items())
    ]
    own = sum(shard.rows for shard in shards)
    shards += _earlier_shards(run)
    earlier = sum(shard.rows for shard in shards) - own
    run.progress.say(f"dedup: {own:,} documents" + (f" against {earlier:,} of earlier runs" if earlier else ""))
    stats = run_dedup(run.context, shards, run.runner)
    if run.context.line_rules:
        lines = {shard: int(marker["lines"]) for shard, marker in markers.items()}
        stats["lines"] = run_line_dedup(run.context, lines, run.runner)
        stats["files"] += stats["lines"].pop("files")
    io.write_json(io.join(run.uri, layout.marker("dedup", 0)), {**stats, "documents": own})
    _record(run, "dedup", started, own, 1)
    run.progress.say(
        f"dedup: {stats['exact']:,} exact and {stats['near']:,} near duplicates, {stats['comparisons']:,} pairs"
        f" verified in {time.monotonic() - started:.1f} s"
    )


def _earlier_shards(run: Run) -> list[IndexShard]:
    shards = []
    number = FIRST_EARLIER_SHARD
    for earlier, manifest in earlier_index(run.plan.job.dedup):
        for position in range(int(manifest["shards"])):
            rows = io.read_json(io.join(earlier, layout.marker("measure", position)))["documents"]
            index, documents = io.join(earlier, layout.index(position)), io.join(earlier, layout.documents(position))
            copies = io.join(earlier, layout.duplicates(position))
            shards.append(IndexShard(number, index, documents, rows, True, copies))
            number += 1
    return shards


def _score(run: Run) -> None:
    if run.context.scored_filters:
        _map_pass(run, "score", "beam_jobs.signals:score_shard", _shard_tasks(run), {}, heavy=True)


def _decide(run: Run) -> None:
    redacts = any(rule.action not in {"drop", "keep"} or rule.actions for rule in run.context.rules.values())
    _map_pass(run, "decide", "beam_jobs.decide:decide_shard", _shard_tasks(run), {}, heavy=redacts)
    if any(arm.sample is not None for arm in run.plan.arms):
        tasks = _shard_tasks(run)
        # A run killed after the clean-up has drawn all its samples and holds their base no more.
        drawn = len(layout.finished(run.uri, "sample", len(run.plan.splits))) == len(tasks)
        extra = {"thresholds": {} if drawn else sample_thresholds(run.context, len(run.plan.splits))}
        _map_pass(run, "sample", "beam_jobs.decide:sample_shard", tasks, extra, heavy=False)


def _tokens(run: Run) -> None:
    if run.plan.job.tokens is not None:
        # Threads: the tokenizer is compiled and lets go of the interpreter.
        _map_pass(run, "tokens", "beam_jobs.tokens:token_shard", _shard_tasks(run), {}, heavy=False)


def _adopt_finished_passes(run: Run) -> None:
    """Link what a finished run beside this one has already made of the same inputs with the same settings."""
    output = run.plan.job.output
    for manifest_uri in io.match(io.join(output, "*", layout.MANIFEST)):
        other = manifest_uri.removesuffix(f"/{layout.MANIFEST}")
        if other.endswith("/latest") or other == run.uri:
            continue
        theirs = io.read_json(manifest_uri).get("pass_fingerprints", {})
        for name, folders in ADOPTABLE.items():
            if theirs.get(name) == run.plan.passes[name] and not layout.finished(run.uri, name, 1):
                _link_folders(other, run.uri, folders, name)


ADOPTABLE = {
    "measure": ("documents", "index", "work/measured", "work/lines", "dead_letter"),
    "dedup": ("duplicates", "work/line_verdicts"),
    "score": ("work/scores",),
}


def _link_folders(source: str, target: str, folders: tuple[str, ...], name: str) -> None:
    for folder in (*folders, f"work/markers/{name}"):  # markers last: a pass counts as finished when they are there
        for uri in io.match(io.join(source, folder, "*")):
            io.link_or_copy(uri, io.join(target, folder, uri.rsplit("/", 1)[-1]))


def _write_report(plan: Plan, manifest: dict[str, Any]) -> None:
    """Write the page and list it in the manifest."""
    from curation.report import render_report

    html = render_report(plan.run, manifest, io.BeamOpener())
    manifest["files"].append(io.write_listed(plan.run, "report.html", html.encode(), 0))


def _point_latest(plan: Plan) -> None:
    """`latest` beside the run points to it: a symbolic link, or on an object store an object that names it."""
    latest = io.join(plan.job.output, "latest")
    if not io.is_local(latest):
        io.write_bytes(latest, plan.fingerprint.encode())
        return
    temporary = f"{io.local_path(latest)}{io.TEMPORARY}{os.getpid()}"
    for left_by_a_killed_run in io.match(f"{latest}{io.TEMPORARY}*"):
        os.unlink(left_by_a_killed_run)
    os.symlink(plan.fingerprint, temporary)
    os.replace(temporary, io.local_path(latest))


def with_execution(plan: Plan, **changes: Any) -> Plan:
    """`plan` with other execution settings (`workers`); what is written stays the same."""
    return replace(plan, job=plan.job.model_copy(update=changes))
