"""Pretraining on a GPU: tokens a second and MFU of our engine and of transformers' Trainer on the same batches, bf16.

    python -m benchmarks.alignment_gpu [--size 124m] [--rows 512] [--micro 32] [--steps 10]

One row a line: without and with torch.compile, each side in turn. MFU is (6 N + 12 L d T) · tokens/s over the dense
bf16 peak of the device, as nanoGPT counts it. On a CPU the same lines come without MFU: a trial of the command.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from alignment.model import SIZES, new_model
from alignment.processes import device
from alignment.throughput import Flops, peak_flops
from benchmarks.alignment import Options, Turn
from benchmarks.alignment_pretrain import IDS, PEER, Case, drawn_tokens, our_turn, their_turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="124m", choices=SIZES)
    parser.add_argument("--rows", type=int, default=512, help="a step; of 1,024 tokens half a million")
    parser.add_argument("--micro", type=int, default=32, help="rows through the model at once")
    parser.add_argument("--steps", type=int, default=10, help="counted steps, after 3 that are not")
    given = parser.parse_args()
    options = Options(rounds=1, steps=given.steps, warm=3)
    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {given.size}, {given.rows} rows a step, {given.micro} at once\n")
    print("| side | compiled | tokens/s | MFU |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for compiled in (False, True) if where.type == "cuda" else (False,):
            case = Case(given.size, SIZES[given.size].context, given.rows, given.micro, "bf16", compiled)
            tokens = drawn_tokens(Path(folder) / "tokens", case, options)
            for side, turn in (
                ("ours", our_turn(tokens, case, options)),
                (PEER, their_turn(tokens, case, options, folder)),
            ):
                print(f"| {side} | {'yes' if compiled else 'no'} | {_speed(turn, case, where)} |", flush=True)


def _speed(turn: Turn, case: Case, where: torch.device) -> str:
    rate = turn.tokens / turn.wall_s
    with torch.device("meta"):
        flops = Flops.of(new_model(case.size, SIZES[case.size].vocabulary, IDS, seed=0))
    peak = peak_flops(where)
    share = f"{rate * flops.per_token(case.context) / peak:.1%}" if peak and flops else "–"
    return f"{rate:,.0f} | {share}"


if __name__ == "__main__":
    main()
