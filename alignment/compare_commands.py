"""`headwater compare RUN` and `headwater report RUN`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from alignment.compare import FILE, compare_run, summary
from alignment.report import write_report


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument(
        "--preregistration", metavar="FILE", type=Path, help="refuse unless this is the file that was registered"
    )
    parser.add_argument("--endpoint", action="append", default=[], metavar="NAME", help="print only these")
    parser.add_argument("--json", action="store_true", help="print compare.json")


def run_compare(args: argparse.Namespace) -> int:
    """Print the verdict, a line an endpoint and, last, the path of what was written."""
    found = compare_run(args.run, args.preregistration, args.endpoint)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(summary(found))
        print(args.run / FILE)
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--masked", action="store_true", help="leave masked texts out of the page, to publish it")
    parser.add_argument("--json", action="store_true", help="print the path as JSON")


def run_report(args: argparse.Namespace) -> int:
    """Write the page and print its path; a run that was not compared yet is compared first."""
    if not (args.run / FILE).is_file():
        compare_run(args.run)
    path = write_report(args.run, reveal=not args.masked)
    print(json.dumps({"report": str(path)}) if args.json else path)
    return 0
