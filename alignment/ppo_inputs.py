"""What goes into PPO: prompts and mixed-in texts as ids with each row's fate; prompts to measure on; one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.direct import is_held_out, prompt_key
from alignment.preference_rows import Comparison, DemonstrationRow, PreferenceRow, Prompt
from alignment.rows import Example, Fate, encode, prompt_ids, text_ids
from alignment.tokenizer import load_tokenizer
from curation.errors import ConfigError, Problem
from curation.fingerprint import canonical_json
from curation.seeding import unit_hash

REFERENCE_SEED = 13  # the same reference responses in every arm and for every seed


def encode_prompts(tokenizer: Any, prompts: Sequence[Prompt], limit: int) -> tuple[list[tuple[int, ...]], list[Fate]]:
    """The ids of every prompt of at most `limit` tokens, and each prompt's fate.

    Raises:
        ConfigError: not one is left.
    """
    kept, fates = [], list[Fate]()
    for prompt in prompts:
        ids = prompt_ids(tokenizer, prompt)
        fits = len(ids) <= limit
        fates.append("kept" if fits else "skipped_long_prompt")
        if fits:
            kept.append(tuple(ids))
    if not kept:
        hint = "fewer `sampling.response_tokens`, a longer context, or shorter prompts"
        said = f"none of {len(prompts)} prompts has at most {limit} tokens"
        raise ConfigError(Problem("no-prompts", said, "prompts", "a prompt and a response within the context", hint))
    return kept, fates


def encode_ptx(tokenizer: Any, rows: Sequence[DemonstrationRow | str], limit: int) -> tuple[list[Example], list[Fate]]:
    """Demonstrations and plain texts as examples of at most `limit` tokens; of a text all but the first count."""
    kept, fates = [], list[Fate]()
    for row in rows:
        if isinstance(row, str):
            ids = [*text_ids(tokenizer, row), int(tokenizer.eos_token_id)]
            example: Example | None = Example((), tuple(ids[:limit])) if row.strip() else None
            fate: Fate = "skipped_empty_response" if example is None else "kept" if len(ids) <= limit else "truncated"
        else:
            example, fate = encode(tokenizer, row.prompt, row.response, limit)
        fates.append(fate)
        if example is not None:
            kept.append(example)
    return kept, fates


def check_same_tokens(tokenizer: Any, other: Path | str, where: str) -> None:
    """Raises ConfigError when a model that reads the policy's tokens was made with another tokenizer."""
    theirs = load_tokenizer(other)
    if theirs.get_vocab() != tokenizer.get_vocab():
        hint = "train it with the policy's tokenizer: it reads the very ids that the policy writes"
        said = f"a tokenizer of {len(theirs)} ids that is not the policy's of {len(tokenizer)}"
        raise ConfigError(Problem("other-tokenizer", said, where, "the policy's tokenizer", hint))


def split_prompts(
    prompts: Sequence[Prompt], evaluation: Sequence[Prompt] | None, share: float
) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and prompts to measure on; none is in both.

    Raises:
        ConfigError: one of the two is empty.
    """
    if evaluation is None:
        held = [prompt for prompt in prompts if is_held_out(prompt_key(prompt), share)]
    else:
        held = list(evaluation)
    keys = {prompt_key(prompt) for prompt in held}
    train = [prompt for prompt in prompts if prompt_key(prompt) not in keys]
    if not train or not held:
        said = f"{len(train)} prompts to train on and {len(held)} to measure on"
        raise ConfigError(Problem("no-prompts", said, "prompts", "at least one of each"))
    return train, held


def shared_reference(rows: Sequence[Comparison], limit: int) -> list[DemonstrationRow]:
    """At most `limit` different responses of the rows with their prompts, chosen by hash: the same in every arm."""
    found: dict[str, DemonstrationRow] = {}
    for row in rows:
        responses = (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else row.responses
        for text in responses:
            found.setdefault(canonical_json([prompt_key(row.prompt), text]), DemonstrationRow(row.prompt, text))
    order = sorted(found, key=lambda key: (unit_hash(key, REFERENCE_SEED), key))
    return [found[key] for key in order[:limit]]
