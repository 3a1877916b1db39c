"""`make spark-demo`, `make flink-demo`: the sample corpus on a small real cluster, compared with one machine."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from beam_jobs.deploy.clusters import CLUSTERS
from beam_jobs.deploy.parts import ENGINES, get
from curation.errors import DataContractError, HeadwaterError, Problem

JOB = "examples/curate_sample.yaml"


def run(output: str, *beam: str) -> dict[str, Any]:
    """The manifest of the sample job, run by the command a user would type."""
    command = [sys.executable, "-m", "curation", "curate", JOB, "--set", f"output={output}", "--json"]
    typed = ["headwater", "curate", JOB, "--set", f"output={output}", *(("--", *beam) if beam else ())]
    print("$", shlex.join(typed), flush=True)
    started = time.monotonic()
    done = subprocess.run([*command, "--", *beam] if beam else command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(Path(done.stdout.splitlines()[-1]).read_text(encoding="utf-8"))
    return found


def same_bytes(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many files both runs list with one sha256 each, arms included.

    Raises:
        DataContractError: some file differs; names the first.
    """
    sides = []
    for manifest in (one, other):
        shards = [s for arm in manifest["arms"].values() for s in (*arm["shards"], *arm["removed_shards"])]
        sides.append({entry["path"]: entry["sha256"] for entry in (*manifest["files"], *shards)})
    differing = sorted(path for path in sides[0].keys() | sides[1].keys() if sides[0].get(path) != sides[1].get(path))
    if differing:
        raise DataContractError(Problem("other-bytes", f"{len(differing)} files differ, first `{differing[0]}`"))
    return len(sides[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m beam_jobs.deploy.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("engine", choices=sorted(CLUSTERS))
    engine = parser.parse_args().engine
    try:
        get(ENGINES[engine])
        local = run("runs/demo")
        temporary = tempfile.TemporaryDirectory(prefix=f"headwater-{engine}-")
        with temporary as folder, CLUSTERS[engine](Path(folder)) as cluster:
            there = run(f"runs/demo-{engine}", *cluster.options)
        print(f"{same_bytes(local, there)} files, the same bytes on {engine} as on one machine")
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
