"""What a page of memory costs the first time: for the system seconds of a run on a virtual machine.

    python -m benchmarks.fresh_memory [--megabytes 200] [--rounds 4]

A guest whose free memory goes back to its host pays again when it takes it: then writing a new file into the page
cache, or filling a new array, costs ten times what it costs on a machine that has its memory.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import tempfile

BLOCK = os.urandom(1 << 16)
PAGE = mmap.PAGESIZE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    size = args.megabytes << 20
    print("| system s a GB | least | most |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        written = [_write(os.path.join(folder, str(number)), size) for number in range(args.rounds)]
    touched = [_touch(size) for _ in range(args.rounds)]
    for name, costs in (("a new file written", written), ("new memory touched", touched)):
        print(f"| {name} | {min(costs):.2f} | {max(costs):.2f} |")


def _system_s() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def _write(path: str, size: int) -> float:
    before = _system_s()
    with open(path, "wb", buffering=0) as file:
        for _ in range(size // len(BLOCK)):
            file.write(BLOCK)
    return (_system_s() - before) / size * 1e9


def _touch(size: int) -> float:
    before = _system_s()
    with mmap.mmap(-1, size) as memory:
        for place in range(0, size, PAGE):
            memory[place] = 1
    return (_system_s() - before) / size * 1e9


if __name__ == "__main__":
    main()
