"""Rewards of texts, each text scored once however often a measure asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alignment.annotators import Pool
from alignment.direct import prompt_key
from alignment.model import RewardModel, weights_sha256
from alignment.preference_rows import Comparison, PreferenceRow, Prompt
from alignment.reward_scores import example_rewards
from alignment.rows import check_tokenizer, encode
from alignment.tokenizer import load_tokenizer, tokenizer_sha256

F64 = npt.NDArray[np.float64]
Item = tuple[Prompt, str]  # a prompt and a response


class Judge(Protocol):
    """Whatever gives responses a number."""

    def rewards(self, items: Sequence[Item]) -> F64:
        """(items,) rewards; NaN for a text that cannot be scored."""


class ModelJudge:
    """A reward model's directory as a judge. Rewards are as the loss saw them, before normalisation: differences are
    log-odds, which calibration needs; effects are in units of their own spread, which a gain would not change."""

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        """Load it.

        Args:
            limit: tokens of prompt and response; longer responses are cut. None: the model's context.

        Raises:
            DataContractError: not a reward model.
            ConfigError: an unfit tokenizer.
        """
        self.folder = str(folder)
        self.model = RewardModel.load(folder)
        self.tokenizer = load_tokenizer(folder)
        check_tokenizer(self.tokenizer, self.folder)
        context = int(getattr(self.model.backbone.config, "max_position_embeddings", 0) or limit or 1024)
        self.limit = min(context, limit or context)
        self.weights = weights_sha256(self.model)
        self.tokens = tokenizer_sha256(self.tokenizer)
        self.fates: Counter[str] = Counter()  # of every different text that was scored
        self._known: dict[tuple[str, str], float] = {}

    def rewards(self, items: Sequence[Item]) -> F64:
        """(items,) rewards; NaN for a text that cannot be encoded.

        Raises:
            StageError: a reward is not finite.
        """
        places = [(prompt_key(prompt), response) for prompt, response in items]
        new = {place: item for place, item in zip(places, items, strict=True) if place not in self._known}
        examples, scored = [], []
        for place, (prompt, response) in new.items():
            example, fate = encode(self.tokenizer, prompt, response, self.limit)
            self.fates[fate] += 1
            self._known[place] = float("nan")
            if example is not None:
                examples.append(example)
                scored.append(place)
        if examples:
            found = example_rewards(self.model, examples, int(self.tokenizer.pad_token_id), normalised=False)
            self._known.update(zip(scored, map(float, found), strict=True))
        return np.array([self._known[place] for place in places], dtype=np.float64)


class PoolJudge:
    """An annotator pool's utility as a judge."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def rewards(self, items: Sequence[Item]) -> F64:
        return np.array([self.pool.utility(prompt, response) for prompt, response in items], dtype=np.float64)


@dataclass(frozen=True)
class Group:
    """A prompt with its different responses."""

    prompt: Prompt
    responses: tuple[str, ...]


def grouped(rows: Iterable[Comparison]) -> list[Group]:
    """Every prompt once, with all responses that rows give to it, in order of first appearance."""
    prompts: dict[str, Prompt] = {}
    responses: dict[str, dict[str, None]] = {}
    for row in rows:
        key = prompt_key(row.prompt)
        prompts.setdefault(key, row.prompt)
        given = (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else row.responses
        responses.setdefault(key, {}).update(dict.fromkeys(given))
    return [Group(prompt, tuple(responses[key])) for key, prompt in prompts.items()]
