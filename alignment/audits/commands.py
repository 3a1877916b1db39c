"""`headwater audit-reward JOB.yaml`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def audit_reward_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.yaml", help="an audit job; with --verify a card.json")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="override a setting")
    parser.add_argument("--verify", action="store_true", help="hash anew what a card was made from")
    parser.add_argument("--pools", action="store_true", help="which human? a job of kind audit_pools")
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def run_audit_reward(args: argparse.Namespace) -> int:
    """Write a card and print its swaps and its path; or verify one and print its hashes."""
    from alignment.audits.card import audit_reward, verify_card
    from alignment.audits.job import load_audit
    from alignment.model import read_json

    if args.verify:
        found = verify_card(Path(args.job))
        print(json.dumps(found) if args.json else "\n".join(f"{name}  {value}" for name, value in found.items()))
        return 0
    if args.pools:
        return _pools(args)
    job = load_audit(args.job, args.set)
    print(f"auditing {job.model} → {job.output}", file=sys.stderr)
    path = audit_reward(job)
    card = read_json(path)
    if args.json:
        print(json.dumps(card))
    else:
        print(swap_table(card))
        print(path)
    return 0


def _pools(args: argparse.Namespace) -> int:
    from alignment.audits.pools import PAGE, audit_pools, load_pools_job

    path = audit_pools(load_pools_job(args.job, args.set))
    if args.json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(path.with_name(PAGE).read_text(encoding="utf-8"))
        print(path)
    return 0


def swap_table(card: Mapping[str, Any]) -> str:
    """One line a swap: effect with its interval, flip rate, responses."""
    lines = [f"{'swap':<12}{'effect':>8}  {'95 %':<18}{'flips':>6}{'responses':>11}"]
    for row in card["swaps"]:
        effect, flip = row["effect"], row["flip_rate"]
        between = "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        lines.append(
            f"{row['swap']:<12}{'–' if effect is None else f'{effect:+.3f}':>8}  {between:<18}"
            f"{'–' if flip is None else f'{flip:.3f}':>6}{row['responses']:>11}"
        )
    return "\n".join(lines)
