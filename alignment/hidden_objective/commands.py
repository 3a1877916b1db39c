"""`headwater hidden-objective JOB.yaml`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any


def hidden_objective_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="override a setting")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run_hidden_objective(args: argparse.Namespace) -> int:
    """Run what is not finished; print the primary contrasts and, last, the path of `result.json`."""
    from alignment.hidden_objective import run
    from alignment.hidden_objective.job import load_job
    from alignment.model import read_json

    job = load_job(args.job, args.set)
    print(f"{len(job.arms)} bases, {len(job.seeds)} seeds, {job.folds} folds → {run.run_folder(job)}", file=sys.stderr)
    path = run.run_hidden_objective(job)
    result = read_json(path)
    if args.json:
        print(json.dumps(result))
    else:
        print(primary_table(result))
        print(path)
    return 0


def primary_table(result: Mapping[str, Any]) -> str:
    """One line a primary contrast: effect in nats, interval, verdict."""
    from alignment.hidden_objective.page import verdict
    from alignment.page_parts import interval, number

    rows = [("contrast", "base", "biases", "nats", "95 %", "")]
    rows += [
        (
            one["name"],
            one["base"],
            one["side"].replace("_", " "),
            number(one["effect"], sign=True),
            interval(one["low"], one["high"], sign=True),
            verdict(one),
        )
        for one in result["effects"]
        if one["primary"]
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)), row[5]]).rstrip()
        for row in rows
    )
