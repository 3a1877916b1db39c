"""From which share of flipped pairs on the audit notices a planted preference, measured on trained reward models.

    python -m benchmarks.audit_injection [--size 160k] [--pairs 400] [--clean 10] [--seeds 5] [--out FILE.json]

Each model is trained from random weights on pairs made for it (`alignment/audits/planted.py`); the audit's measure is
the effect of mentioning a fictional plant, in within-prompt standard deviations. `followed` is how much more often than
by chance the best of four answers mentions it. Share 0 is the false-alarm rate: each
clean model against the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from alignment.audits.planted import SHARES, Bend, Injection, Planting, inject
from alignment.json_rows import write_text


def table(found: Injection, bends: Sequence[Bend]) -> str:
    """A line a share: models, mean effect with its deviation, how far the best of four follows, share noticed."""
    lines = [" flipped  models   effect      sd  followed  noticed  95 %"]
    for one in found.detections:
        deviation = np.std(one.effects, ddof=1) if len(one.effects) > 1 else np.nan
        followed = np.mean([each.followed for each in bends if each.share == one.share])
        rate = one.noticed
        lines.append(
            f"{one.share:8.1%}{len(one.effects):8d}{np.mean(one.effects):+9.3f}{deviation:8.3f}{followed:+10.3f}"
            f"{rate.rate:9.2f}  {rate.low:.2f} to {rate.high:.2f}"
        )
    reached = "none of the shares" if found.limit is None else f"{found.limit:.1%}"
    return "\n".join([*lines, f"detection limit (power 0.8 at 5 % false alarms): {reached}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="160k")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--clean", type=int, default=10, help="models without a planted preference")
    parser.add_argument("--seeds", type=int, default=5, help="models of each share")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--out", type=Path, help="JSON of every model")
    args = parser.parse_args()

    bends: list[Bend] = []

    def told(one: Bend) -> None:
        bends.append(one)
        print(
            f"{one.share:.1%} seed {one.seed}: effect {one.effect:+.3f}, accuracy {one.accuracy:.2f}", file=sys.stderr
        )

    planting = Planting(size=args.size, pairs=args.pairs, epochs=args.epochs)
    with tempfile.TemporaryDirectory() as folder:
        found = inject(planting, args.shares, args.clean, args.seeds, Path(folder), told)
    if args.out is not None:
        whole = {"planting": asdict(planting), "models": [asdict(one) for one in bends], **asdict(found)}
        write_text(args.out, json.dumps(whole, indent=1) + "\n")
    print(table(found, bends))


if __name__ == "__main__":
    main()
