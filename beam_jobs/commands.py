"""`headwater plan` and `headwater curate`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
from importlib import import_module
from typing import Any

from beam_jobs.config import CurateJob
from beam_jobs.planning import Plan, check_output, cost_estimate, make_plan
from beam_jobs.runner_choice import choose_runner, refusals
from curation.config import load_job_file
from curation.dedup.curve import curve, midpoint
from curation.settings import parse


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.yaml", help="a job file of `kind: curate`")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="override one setting")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(beam_options=[])
    parser.epilog = f"What follows `--` is handed to Beam as it is: {parser.prog} JOB.yaml -- --runner=SparkRunner ..."


def curate_arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def load_plan(args: argparse.Namespace) -> Plan:
    """The plan of the job file named on the command line."""
    data = load_job_file(args.job, "curate", args.set)
    return make_plan(parse(CurateJob, data, args.job, "this job"), args.job)


def run_plan(args: argparse.Namespace) -> int:
    """Print what `curate` would do."""
    from beam_jobs import io, layout, remote

    chosen = choose_runner(args.beam_options, os.cpu_count() or 1)  # a misspelt name before anything is read
    if args.beam_options:
        remote.use_options(args.beam_options)
    plan = load_plan(args)
    workers = plan.job.workers or os.cpu_count() or 1
    chosen = choose_runner(args.beam_options, workers)
    dedup = plan.job.dedup
    summary: dict[str, Any] = {
        "fingerprint": plan.fingerprint,
        "run": plan.run,
        "runner": chosen.plain(),
        "would_stop_at": refusals(args.beam_options, plan.run, [item["uri"] for item in plan.inputs]),
        "finished": io.exists(io.join(plan.run, layout.MANIFEST)),
        "shards_done": {
            name: len(layout.finished(plan.run, name, len(plan.splits)))
            for name in ("measure", "dedup", "score", "decide", "sample")
        },
        "estimate": cost_estimate(plan, workers),
        "inputs": plan.inputs,
        "dedup_curve": [{"jaccard": s, "compared": p} for s, p in curve(dedup)],
        "job": plan.job.model_dump(mode="json", by_alias=True),
        "rulesets": [arm.plain() for arm in plan.arms],
    }
    print(json.dumps(summary, ensure_ascii=False) if args.json else plan_text(summary))
    return 0


def plan_text(summary: dict[str, Any]) -> str:
    """What `plan` found, for a reader."""
    import yaml

    runner, estimate, dedup = summary["runner"], summary["estimate"], summary["job"]["dedup"]
    lines = [
        f"run          {summary['run']}{' (finished)' if summary['finished'] else ''}",
        f"runner       {runner['name']}: {runner['where']}",
        f"             because {runner['why']}",
    ]
    lines += [
        f"             would stop: {line}" for problem in summary["would_stop_at"] for line in problem.split("\n")
    ]
    files = f"{estimate['input_files']} files, {estimate['input_bytes'] / 1e6:,.1f} MB, {estimate['shards']} shards"
    text, time = f"{estimate['text_bytes'] / 1e6:,.0f} MB", f"{estimate['seconds']:,.0f} s"
    half = f"half of the pairs are compared at Jaccard {midpoint(dedup['bands'], dedup['rows']):.3f}"
    lines += [
        f"inputs       {files}",
        f"cost         about {text} decompressed, {time} on {estimate['cores']} cores, start-up included",
        "done         " + ", ".join(f"{name} {count}" for name, count in summary["shards_done"].items()),
        f"dedup        {dedup['bands']} bands x {dedup['rows']} rows over word {dedup['ngram']}-grams; {half};",
        f"             a compared pair is a duplicate from exact Jaccard {dedup['threshold']}",
    ]
    for point in summary["dedup_curve"]:
        lines.append(
            f"             {point['jaccard']:.2f} {point['compared']:8.4f} {'#' * round(40 * point['compared'])}"
        )
    job = yaml.safe_dump(summary["job"], sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, "\n# the job with every default\n" + job])


def _import_passes() -> None:
    from beam_jobs.remote import IMPORTING

    with IMPORTING:
        import_module("beam_jobs.curate")


def run_curate(args: argparse.Namespace) -> int:
    """Run the job; the run's path is the last line on stdout."""
    from beam_jobs import io, layout, remote

    choose_runner(args.beam_options, 1)  # a misspelt name is said before inputs are read
    if args.beam_options:
        remote.use_options(args.beam_options)
    # Importing Beam takes a second and holds the interpreter; hashing the inputs does not.
    importing = threading.Thread(target=_import_passes)
    importing.start()
    try:
        plan = load_plan(args)
    finally:
        importing.join()
    gc.freeze()  # what importing has made stays; looking through it took 0.2 s of 300,000 documents
    from beam_jobs.curate import curate
    from beam_jobs.progress import Progress

    check_output(plan.run)
    run = curate(plan, tuple(args.beam_options), Progress(quiet=args.quiet))
    manifest_uri = io.join(run, layout.MANIFEST)
    if args.json:
        print(manifest_uri)
        return 0
    manifest = io.read_json(manifest_uri)
    print(arm_table(manifest))
    for note in manifest["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(f"report  {io.join(run, 'report.html')}")
    print(run)
    return 0


def arm_table(manifest: dict[str, Any]) -> str:
    """The arms of a run as a text table."""
    rows = [("arm", "documents", "MB", "redacted", "dropped", "quarantined", "most frequent reasons")]
    for name in manifest["arm_order"]:
        arm = manifest["arms"][name]
        reasons = sorted(arm["removed_by"].items(), key=lambda item: (-item[1], item[0]))[:3]
        rows.append(
            (
                name,
                f"{arm['documents']:,}",
                f"{arm['bytes'] / 1e6:,.2f}",
                f"{arm['redacted']:,}",
                f"{arm['dropped']:,}",
                f"{arm['quarantined']:,}",
                ", ".join(f"{code} {count:,}" for code, count in reasons),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
        ]
        lines.append("  ".join((*cells, row[-1])).rstrip())
    total = manifest["documents"] + manifest["dead_letters"]
    lines.append(f"{total:,} records read, {manifest['dead_letters']:,} of them dead letters")
    return "\n".join(lines)
