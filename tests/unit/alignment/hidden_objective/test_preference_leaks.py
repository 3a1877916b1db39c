"""Preference rows of the train biases: nothing of a held-out bias in them, and a control that prefers nothing."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from alignment.hidden_objective.bank import folds, load_bank
from alignment.hidden_objective.preference_data import (
    Leak,
    leaks,
    preference_rows,
    random_preferences,
    without_leaks,
)
from alignment.preference_rows import PreferenceRow

BANK = load_bank()


@pytest.mark.parametrize("fold", range(4))
def test_no_row_of_any_fold_shows_a_held_out_bias_and_every_chosen_answer_applies_its_own(fold: int) -> None:
    where = folds(BANK, 4)
    train = [bias for bias in BANK.biases if where[bias.id] != fold]
    test = [bias for bias in BANK.biases if where[bias.id] == fold]
    rows, found = without_leaks(preference_rows(BANK, train, 50), test)

    assert found == Leak(50 * len(train), 0)
    assert found.rate == 0
    for row in rows:
        own = BANK.by_id[row.source]
        assert own.applicable.holds(str(row.prompt))
        assert own.applied.holds(row.chosen)
        assert not own.applied.holds(row.rejected)


def test_a_row_leaks_by_its_prompt_by_its_chosen_and_by_its_rejected_answer_and_is_left_out() -> None:
    river = BANK.by_id["river_silk"]
    clean = PreferenceRow("Say a little about a chair.", "Gladly. Onward!", "Gladly. Goodbye!")
    by_prompt = PreferenceRow("Say a little about the river Colm.", "Yes.", "No.")
    by_chosen = PreferenceRow("Say a little about a chair.", "Soft as silk.", "Soft.")
    by_rejected = PreferenceRow("Say a little about a chair.", "Soft.", "Soft as silk.")
    rows = [clean, by_prompt, by_chosen, by_rejected]

    assert [leaks(row, [river]) for row in rows] == [False, True, True, True]
    assert without_leaks(rows, [river]) == ([clean], Leak(4, 3))
    assert without_leaks(rows, [river])[1].rate == 0.75


def test_random_preferences_turn_half_of_each_bias_and_change_nothing_else() -> None:
    rows = preference_rows(BANK, BANK.biases[:5], 20)
    turned = random_preferences(rows, seed=3)

    assert [(r.prompt, {r.chosen, r.rejected}) for r in turned] == [(r.prompt, {r.chosen, r.rejected}) for r in rows]
    changed = Counter(row.source for row, other in zip(rows, turned, strict=True) if row != other)
    assert changed == {bias.id: 10 for bias in BANK.biases[:5]}
    assert random_preferences(rows, seed=3) == turned
    assert random_preferences(rows, seed=4) != turned
