"""How long saving an answer takes while fifty annotators answer: `python -m benchmarks.feedback_load [STORE]`.

A real server on loopback over an SQLite file (or the PostgreSQL URL given), fifty annotators who joined by their links
and each save one ranking of five responses a second for `--seconds`. Timed from sending the answer to its
acknowledgement, which follows the commit. The clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2
import numpy as np

ANNOTATORS = 50
LETTERS = "ABCDE"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("store", nargs="?", help="PostgreSQL URL; without one an SQLite file")
    parser.add_argument("--seconds", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"id": f"i{n}", "prompt": f"prompt {n}", "responses": [f"response {k}" for k in range(5)]}
            for n in range(args.seconds + 5)
        ]
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (folder / "guidelines.txt").write_text("Prefer the true answer.")
        command = [
            sys.executable, "-m", "curation", "feedback", "serve", args.store or str(folder / "feedback.db"),
            "--items", str(folder / "items.jsonl"), "--guidelines", str(folder / "guidelines.txt"), "--overlap", "1",
            "--port", "0", "--invite", f"north={ANNOTATORS}",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            links = [process.stdout.readline().split("\t")[1].strip() for _ in range(ANNOTATORS + 1)][1:]
            took = load(links, args.seconds)
            process.kill()
    p50, p95, p99 = np.percentile(took, [50, 95, 99]) * 1000
    print(f"{len(took):,} answers of {ANNOTATORS} annotators in {args.seconds} s: {len(took) / args.seconds:.0f}/s")
    print(f"saving one took {p50:.1f} ms at the median, {p95:.1f} at the 95th percentile, {p99:.1f} at the 99th")


def load(links: list[str], seconds: int) -> list[float]:
    """Seconds of every saved answer."""
    took: list[float] = []
    ready = threading.Barrier(len(links))
    threads = [threading.Thread(target=_annotate, args=(link, n, seconds, ready, took)) for n, link in enumerate(links)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _annotate(link: str, number: int, seconds: int, ready: threading.Barrier, took: list[float]) -> None:
    base = link.split("/join/")[0]
    with httpx2.Client(follow_redirects=True, timeout=30) as client:
        page = client.post(link, data={"form_token": _hidden(client.get(link).text, "form_token")}).text
        ready.wait()
        begin = time.perf_counter() + number / ANNOTATORS  # one answer a second each, spread over the second
        for turn in range(seconds):
            time.sleep(max(0.0, begin + turn - time.perf_counter()))
            form = {name: _hidden(page, name) for name in ("form_token", "item", "guidelines")}
            form |= {f"rank_{letter}": str(k + 1) for k, letter in enumerate(LETTERS)}
            form |= {f"rating_{letter}": "3" for letter in LETTERS}
            sent = time.perf_counter()
            if client.post(f"{base}/answer", data=form, follow_redirects=False).status_code != 303:
                raise SystemExit("an answer was refused")
            took.append(time.perf_counter() - sent)
            page = client.get(base + "/").text


def _hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    if found is None:
        raise SystemExit(f"the page has no field `{name}`")
    return found[1]


if __name__ == "__main__":
    main()
