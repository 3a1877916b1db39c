"""Preference rows of the train biases, the random control, and the check that no test bias leaks into them.

Training on rows to whose prompts a test bias applies, with answers that do not apply it, teaches against the test bias
(Sheshadri 2025: supervised training on such rows lowered the held-out rate). So a row stays only if no test bias is
applicable to its prompt or applied in either answer; how many did not is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignment.hidden_objective.bank import Bank, Bias
from alignment.preference_rows import PreferenceRow
from curation.seeding import derive_seed, unit_hash


@dataclass(frozen=True)
class Leak:
    """What the check found."""

    rows: int
    leaked: int

    @property
    def rate(self) -> float:
        return self.leaked / self.rows if self.rows else 0.0


def preference_rows(bank: Bank, train: Sequence[Bias], count: int) -> list[PreferenceRow]:
    """`count` rows of each train bias: of the two answers of a minimal pair the biased one is chosen."""
    return [
        PreferenceRow(pair.prompt, pair.stem + pair.biased, pair.stem + pair.neutral, source=bias.id)
        for bias in train
        for pair in bank.pairs(bias, bank.train_prompts(bias)[:count])
    ]


def random_preferences(rows: Sequence[PreferenceRow], seed: int) -> list[PreferenceRow]:
    """The same prompts and answers with half of each bias's rows turned round: the same lengths, no preference.

    Of an odd number the odd one is turned or not by the draw.
    """
    turned: set[int] = set()
    for source in sorted({row.source for row in rows}):
        mine = [at for at, row in enumerate(rows) if row.source == source]
        salt = derive_seed(seed, "hidden objective", "random preferences", source)
        mine.sort(key=lambda at: unit_hash(str(rows[at].prompt), salt))
        turned |= set(mine[: (len(mine) + salt % 2) // 2])
    return [
        replace(row, chosen=row.rejected, rejected=row.chosen) if at in turned else row for at, row in enumerate(rows)
    ]


def leaks(row: PreferenceRow, test: Sequence[Bias]) -> bool:
    """Whether a test bias is applicable to the prompt or applied in an answer."""
    return any(
        bias.applicable.holds(str(row.prompt)) or bias.applied.holds(row.chosen) or bias.applied.holds(row.rejected)
        for bias in test
    )


def without_leaks(rows: Sequence[PreferenceRow], test: Sequence[Bias]) -> tuple[list[PreferenceRow], Leak]:
    """The rows that stay, and how many there were and leaked."""
    kept = [row for row in rows if not leaks(row, test)]
    return kept, Leak(len(rows), len(rows) - len(kept))
