"""The same job on the same two cores in one run: rules, near-duplicate removal, write. Prints ratios.

    python -m benchmarks.against_datatrove [--corpus ../shared/data/corpus/reddit.jsonl.zst] [--documents 53828]

datatrove runs in `.bench-venv`, which this makes on first use. Both read the same two JSONL files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import zstandard

from benchmarks.process import Cost, run

REPO = Path(__file__).resolve().parent.parent
PEER = ("datatrove[processing]==0.10.1", "spacy", "orjson", "pyarrow", "zstandard")
OUT = REPO / "benchmarks" / "out" / "datatrove"
SIGNATURES_LIMIT = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=REPO.parent / "shared/data/corpus/reddit.jsonl.zst")
    parser.add_argument("--documents", type=int, default=1 << 40)
    parser.add_argument("--peer-python", default=None, help="a Python that has datatrove; default: make .bench-venv")
    args = parser.parse_args()
    peer_python = args.peer_python or peer_environment()
    shutil.rmtree(OUT, ignore_errors=True)
    count = write_halves(args.corpus, OUT / "input", args.documents)
    ours = headwater(OUT)
    signatures = signature_rates(peer_python, OUT / "input" / "half-0.jsonl")
    theirs = run(
        [peer_python, str(REPO / "benchmarks/datatrove_job.py"), "pipeline", str(OUT / "input"), str(OUT / "dt"), "2"]
    )
    report(count, ours, theirs, signatures)


def peer_environment() -> str:
    """The Python of `.bench-venv`, made on first use."""
    python = REPO / ".bench-venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER], check=True)
    return str(python)


def write_halves(corpus: Path, out: Path, limit: int) -> int:
    """Write the first `limit` documents as two plain JSONL files; returns how many there were."""
    out.mkdir(parents=True)
    halves = [(out / f"half-{i}.jsonl").open("w", encoding="utf-8") for i in range(2)]
    count = 0
    with corpus.open("rb") as raw, zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw) as stream:
        for line in stream.read().decode().split("\n"):
            if line and count < limit:
                row = json.loads(line)
                kept = {"id": row["id"], "text": row["text"]}
                halves[count % 2].write(json.dumps(kept, ensure_ascii=False) + "\n")
                count += 1
    for half in halves:
        half.close()
    return count


def headwater(out: Path) -> Cost:
    """The whole command as a user types it, start-up included; a first run of ten documents compiles the kernels."""
    job = out / "job.yaml"
    job.write_text(
        f"kind: curate\ninput: ['{out}/input/*.jsonl']\noutput: {out}/runs\narms: [heuristics]\n"
        "limits: {max_removed_fraction: 1.0}\n"
    )
    command = [sys.executable, "-m", "curation", "curate", str(job), "--quiet"]
    tiny = out / "tiny.jsonl"
    tiny.write_text("".join((out / "input/half-0.jsonl").read_text(encoding="utf-8").splitlines(True)[:10]))
    run([*command, "--set", f'input=["{tiny}"]', "--set", f"output={out}/warm"])
    return run(command)


def signature_rates(peer_python: str, path: Path) -> dict[str, float]:
    """Documents per processor second: 112 permutations over word 5-grams, one core, text to signature."""
    import pyarrow as pa

    from curation.kernels.shingles import minhash
    from curation.kernels.text_batch import TextBatch

    lines = path.read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    minhash(TextBatch.of(texts[:10]), 5, 112, 1)
    array = pa.array(texts)
    started = time.process_time()
    minhash(TextBatch(array), 5, 112, 1)
    ours = len(texts) / (time.process_time() - started)
    command = [peer_python, str(REPO / "benchmarks/datatrove_job.py"), "signatures", str(path), str(SIGNATURES_LIMIT)]
    found = json.loads(run(command).stdout.strip().splitlines()[-1])
    return {"headwater": ours, "datatrove": found["documents"] / found["cpu_s"]}


def report(count: int, ours: Cost, theirs: Cost, signatures: dict[str, float]) -> None:
    print(f"{count:,} documents, 2 cores\n")
    print("| | Headwater | datatrove 0.10.1 | ratio |\n|---|---:|---:|---:|")
    print(
        f"| rules + MinHash + write, documents/s | {count / ours.wall_s:,.0f} | {count / theirs.wall_s:,.0f} | "
        f"{theirs.wall_s / ours.wall_s:.1f} |"
    )
    print(f"| the same, wall s | {ours.wall_s:.1f} | {theirs.wall_s:.1f} | |")
    print(f"| peak memory, MB | {ours.peak_mb:,.0f} | {theirs.peak_mb:,.0f} | |")
    print(
        f"| signatures, documents/s/core | {signatures['headwater']:,.0f} | {signatures['datatrove']:,.0f} | "
        f"{signatures['headwater'] / signatures['datatrove']:.0f} |"
    )


if __name__ == "__main__":
    main()
