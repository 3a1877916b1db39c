"""`make bench`: every comparison, one after the other. Wants a quiet machine: a busy one slows both sides unequally."""

from __future__ import annotations

import runpy
import sys

BENCHMARKS = ("benchmarks.against_datatrove", "benchmarks.throughput", "benchmarks.growth")


def main() -> None:
    for name in BENCHMARKS:
        print(f"\n## python -m {name}\n", flush=True)
        sys.argv = [name]
        runpy.run_module(name, run_name="__main__")


if __name__ == "__main__":
    main()
