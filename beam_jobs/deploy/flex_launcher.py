"""What a flex template starts: the parameters of the template become a `headwater curate` command."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from beam_jobs import io
from curation.cli import main as headwater


def command_line(arguments: list[str]) -> list[str]:
    """Arguments of `headwater` for those of the template: `--job` and `--set` are ours, the rest goes to Beam."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--job", required=True)
    parser.add_argument("--set", default="", help="a.b=VALUE;c=VALUE")
    args, beam = parser.parse_known_args(arguments)
    job = args.job
    if not io.is_local(job):
        job = str(Path(tempfile.mkdtemp(prefix="headwater-")) / Path(job).name)
        Path(job).write_bytes(io.read_bytes(args.job))
    overrides = [word for setting in args.set.split(";") if setting for word in ("--set", setting)]
    runner = [] if any(word.startswith("--runner") for word in beam) else ["--runner=DataflowRunner"]
    return ["curate", job, *overrides, "--", *runner, *beam]


if __name__ == "__main__":
    sys.exit(headwater(command_line(sys.argv[1:])))
