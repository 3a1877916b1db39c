"""How often intervals over seeds and prompts hold the truth, and how often identical arms are told apart.

    python -m benchmarks.interval_coverage [--replays 1000]

Scores are drawn from a model whose truth is zero: a difference of arms is seed + prompt + noise, with the deviations in
the table. Nominal: 95 %. `expanded` is what `headwater compare` reports; `percentile` and `BCa` (acceleration from
leaving out one seed at a time) come from the same draws.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from alignment.statistics.bootstrap import bca_bounds, crossed_draws, crossed_interval
from alignment.statistics.contrast import Cells, Contrast
from alignment.statistics.sign_flip import sign_flip

F64 = npt.NDArray[np.float64]

PROMPTS, DRAWS = 100, 2_000
SEEDS = (2, 3, 5, 6, 8, 12)
# Deviations of seed, prompt and noise: seeds decide, prompts decide, both, only noise.
DESIGNS = ((1.0, 0.0, 1.0), (0.2, 3.0, 5.0), (1.0, 3.0, 5.0), (0.0, 0.0, 1.0))


def replay(generator: np.random.Generator, seeds: int, design: tuple[float, float, float]) -> Contrast:
    """Two arms that differ by chance alone."""
    of_seed, of_prompt, noise = design
    shape = (seeds, PROMPTS)
    apart: F64 = of_seed * generator.normal(size=(seeds, 1)) + of_prompt * generator.normal(size=(1, PROMPTS))
    base: F64 = 5 * generator.normal(size=(1, PROMPTS)) + generator.normal(size=shape)
    return Contrast.between(Cells.of(base + apart + noise * generator.normal(size=shape)), Cells.of(base))


def coverage(seeds: int, design: tuple[float, float, float], replays: int) -> tuple[float, float, float, float]:
    """Share of replays whose interval holds zero (expanded, percentile, BCa), and share with p ≤ 0.05."""
    generator = np.random.default_rng(seeds)
    held = np.zeros(4)
    for number in range(replays):
        contrast = replay(generator, seeds, design)
        found = crossed_interval(contrast, number, 0.95, DRAWS)
        drawn, effects = crossed_draws(contrast, number, DRAWS), contrast.per_seed()
        left_out = np.array([np.delete(effects, at).mean() for at in range(seeds)])
        bounds = [
            (found.low, found.high),
            tuple(np.percentile(drawn, [2.5, 97.5])),
            bca_bounds(drawn, float(effects.mean()), left_out, 0.95),
        ]
        held[:3] += [low is not None and high is not None and low <= 0 <= high for low, high in bounds]
        held[3] += (sign_flip(effects).p or 1.0) <= 0.05
    expanded, percentile, bca, significant = (held / replays).tolist()
    return expanded, percentile, bca, significant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=1_000)
    replays = parser.parse_args().replays
    print(f"{replays} replays, {PROMPTS} prompts, {DRAWS} draws\n")
    print("| seeds | sd of seed, prompt, noise | expanded | percentile | BCa | sign-flip p ≤ 0.05 |")
    print("|---|---|---|---|---|---|")
    for seeds in SEEDS:
        for design in DESIGNS:
            cells = " | ".join(f"{value:.1%}" for value in coverage(seeds, design, replays))
            print(f"| {seeds} | {', '.join(f'{value:g}' for value in design)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
