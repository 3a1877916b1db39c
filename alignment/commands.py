"""`headwater run EXPERIMENT.yaml`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `compare` and `report` need no torch
    from alignment.stage import StageResult

# Of each stage's metrics, those that say whether it did its work; the others are in `stage.json`.
SHOWN = {
    "pretrain": ("validation_loss",),
    "sft": ("eos_rate_after", "loss_after"),
    "reward": ("accuracy", "ece"),
    "ppo": ("reward", "heldout_gain", "kl"),
    "dpo": ("margin_gain", "reward_accuracy"),
    "kto": ("margin_gain",),
}


def run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="EXPERIMENT.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="override a setting")
    parser.add_argument("--json", action="store_true", help="print every stage's result as JSON")


def run_run(args: argparse.Namespace) -> int:
    """Run what is not finished, print one row a stage and, last, the path of the run."""
    from alignment.config import load_experiment
    from alignment.experiment import results, run_experiment, run_folder

    job = load_experiment(args.job, args.set)
    print(f"{len(job.seeds)} seeds, stages {', '.join(job.stages)} → {run_folder(job)}", file=sys.stderr)
    run = run_experiment(job)
    found = results(run)
    if args.json:
        print(json.dumps({"run": str(run), "stages": [vars(result) for result in found]}))
    else:
        print(stage_table(found))
        print(run)
    return 0


def stage_table(found: Sequence[StageResult]) -> str:
    """One line a finished stage."""
    rows = [("arm", "seed", "stage", "steps", "tokens", "seconds", "")]
    for result in found:
        shown = [f"{name} {result.metrics[name]:.3f}" for name in SHOWN.get(result.stage, ()) if name in result.metrics]
        rows.append(
            (
                result.arm,
                str(result.seed),
                Path(result.path).name,
                str(result.steps),
                f"{result.tokens_seen:,}",
                f"{result.wall_s:.1f}",
                "  ".join(shown),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    return "\n".join(
        "  ".join(
            [
                *(
                    cell.ljust(w) if k < 3 else cell.rjust(w)
                    for k, (cell, w) in enumerate(zip(row[:6], widths, strict=True))
                ),
                row[6],
            ]
        ).rstrip()
        for row in rows
    )


def export_trl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True)


def run_export_trl(args: argparse.Namespace) -> int:
    """Write rows and models of a run in TRL's formats."""
    from alignment.export_trl import export_trl

    export_trl(args.run, args.out)
    print(args.out)
    return 0


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--preregistration", type=Path, help="a file that has to be the registered one")
    parser.add_argument("--only", action="append", default=[], metavar="ENDPOINT", help="print this endpoint alone")
    parser.add_argument("--json", action="store_true", help="print what compare.json holds")


def run_compare(args: argparse.Namespace) -> int:
    """Write `compare.json` and print the verdict."""
    from alignment.compare import compare_run, summary

    found = compare_run(args.run, args.preregistration, args.only)
    if args.json:
        print(json.dumps(found))
        return 0
    primary = [row for row in found["endpoints"] if row["role"] == "primary" or row["name"] in args.only]
    print(summary({**found, "endpoints": primary}))
    others = len(found["endpoints"]) - len(primary)
    if others:
        print(f"\n{others} exploratory endpoints: {args.run / 'compare.json'}")
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--masked", action="store_true", help="leave abuse out of the page altogether")


def run_report(args: argparse.Namespace) -> int:
    """Write `report.html` of a compared run."""
    from alignment.report import write_report

    print(write_report(args.run, reveal=not args.masked))
    return 0


def export_lm_eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="EXPERIMENT.yaml")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True)


def run_export_lm_eval(args: argparse.Namespace) -> int:
    """Write the multiple-choice metrics of a job as tasks of lm-evaluation-harness."""
    from alignment.config import check_evaluation, load_experiment
    from alignment.export_lm_eval import export_lm_eval

    job = load_experiment(args.job)
    typed = check_evaluation(job, args.job) if job.evaluate is not None else {}
    for task in export_lm_eval(typed, args.out):
        print(task)
    return 0
