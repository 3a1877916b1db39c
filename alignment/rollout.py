"""Rollouts: what a policy answers, what the reward model says of it, and every log-probability PPO needs.

Probabilities are those of the tempered policy softmax(logits / temperature) everywhere: in sampling, in the old and new
log-probabilities and in the reference's. They come from the forward pass that training uses, never from `generate`: two
engines differ, and then the ratio is not 1 where it must be. Nothing else may bend the distribution that is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from transformers import GenerationConfig

from alignment import policy_gradient as pg
from alignment.model import RewardModel, positions
from alignment.rows import Example, pad
from curation.errors import ConfigError, Problem, StageError
from curation.seeding import derive_seed
from curation.settings import Settings

Scorer = Callable[[Tensor, Tensor], Tensor]  # ids, mask (rows, tokens) → (rows,) rewards; a RewardModel is one
MissingEos = Literal["score", "subtract", "keep"]

# Settings of `generate` that only say how to compute. Every other one changes which tokens are drawn (min_length,
# repetition_penalty, no_repeat_ngram_size, top_k, bad_words_ids, …): the sampled distribution is then not the one whose
# log-probabilities are taken, and the estimated KL turns negative (trl #615, #1005, #1017).
HARMLESS_OPTIONS = frozenset({"use_cache", "cache_implementation", "cache_config", "compile_config", "disable_compile"})


class SamplingSettings(Settings):
    """How responses are drawn."""

    response_tokens: int = Field(default=53, ge=1)  # at most; 53: Stiennon 2020 and the N+ replication
    temperature: float = Field(default=1.0, gt=0)  # InstructGPT; lm-human-preferences has 0.7
    rows_per_forward: int = Field(default=64, ge=1)  # sequences through a model at once where no gradient is kept
    options: Mapping[str, Any] = Field(
        default_factory=dict
    )  # further options of `generate`: only such as leave the distribution alone
    # Without an end of text, `score`: the reward is −missing_eos_value whatever the reward model says (Stiennon 2020);
    # `subtract`: it is lowered by that (TRL); `keep`: it stays.
    missing_eos: MissingEos = "score"
    missing_eos_value: float = Field(default=1.0, ge=0)


@dataclass(frozen=True)
class Rollout:
    """One batch of episodes. P: longest prompt, T: longest response; V_t: value before token t."""

    ids: Tensor  # (rows, P + T) int64: prompts padded on the left, responses on the right
    mask: Tensor  # (rows, P + T) bool: real tokens
    response: Tensor  # (rows, T) bool: tokens of the response up to and with its first end of text
    ended: Tensor  # (rows,) bool: it has an end of text
    reward: Tensor  # (rows,) what the reward model says
    score: Tensor  # (rows,) the same after what is done about a missing end of text
    log_probs: Tensor  # (rows, T) of the policy that sampled, 0 outside `response`
    reference: Tensor  # (rows, T) log-probabilities under the reference
    entropy: Tensor  # (rows, T) of the policy's distribution at each token
    values: Tensor  # (rows, T), not masked

    @property
    def width(self) -> int:
        """T."""
        return self.response.shape[1]

    @property
    def lengths(self) -> Tensor:
        """(rows,) tokens of each response, its end of text included."""
        return self.response.sum(1)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """The tensors of some rows, by name."""
        return {field.name: getattr(self, field.name)[index] for field in fields(self)}


def generation_config(settings: SamplingSettings, pad_id: int, eos_id: int) -> GenerationConfig:
    """Plain ancestral sampling at the temperature, stopped by `eos_id`.

    Raises:
        ConfigError: an option would change the distribution that is sampled.
    """
    bad = sorted(set(settings.options) - HARMLESS_OPTIONS)
    if bad:
        hint = "sample from the policy as it is; say what you want in the reward"
        problems = [
            Problem(
                "bends-sampling",
                f"`{name}` = {settings.options[name]!r} changes which tokens are drawn",
                f"sampling.options.{name}",
                f"one of: {', '.join(sorted(HARMLESS_OPTIONS))}",
                hint,
            )
            for name in bad
        ]
        raise ConfigError(*problems)
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=settings.response_tokens,
        do_sample=True,
        temperature=settings.temperature,
        top_k=0,
        top_p=1.0,
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        **settings.options,
    )


@torch.no_grad()
def sample(
    model: Any, prompts: Sequence[Sequence[int]], settings: SamplingSettings, pad_id: int, eos_id: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw one response to each prompt.

    The draw depends on the weights, the prompts, their order and `seed` alone: torch's own generators are put back to
    where they were. A model's own generation defaults (a checkpoint may come with `repetition_penalty`) do not apply.

    Returns:
        ids (rows, P + T) of left-padded prompts with their responses, and `response` (rows, T) bool, True up to and
        with the first end of text. What follows it is padding.
    """
    where = next(model.parameters()).device
    padded = pad([Example(tuple(prompt), ()) for prompt in prompts], pad_id, "left")
    config = generation_config(settings, pad_id, eos_id)
    own, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
            torch.manual_seed(seed)
            ids = model.generate(
                input_ids=padded.ids.to(where), attention_mask=padded.mask.to(where), generation_config=config
            )
    finally:
        model.generation_config = own
    response = until_eos(ids[:, padded.ids.shape[1] :], eos_id)
    width = int(response.sum(1).max())
    return ids[:, : padded.ids.shape[1] + width], response[:, :width]


def until_eos(tokens: Tensor, eos_id: int) -> Tensor:
    """(rows, T) bool: the tokens up to and with the first `eos_id`; all of them where there is none."""
    ends = (tokens == eos_id).long()
    return (ends.cumsum(1) - ends) == 0


def response_logits(model: Any, ids: Tensor, mask: Tensor, width: int, temperature: float) -> Tensor:
    """(rows, T, vocabulary) fp32 logits over the temperature, of the last `width` tokens given those before them."""
    seen = mask[:, :-1]  # nothing is predicted from the last token
    logits = model(
        input_ids=ids[:, :-1],
        attention_mask=seen,
        position_ids=positions(seen),
        logits_to_keep=width,
        use_cache=False,
    ).logits[:, -width:]
    return torch.as_tensor(logits.float() / temperature)


def taken(logits: Tensor, ids: Tensor) -> Tensor:
    """(rows, T) log-probability of the tokens that stand at the end of `ids` under `logits` (rows, T, vocabulary)."""
    width = logits.shape[1]
    flat = F.cross_entropy(logits.flatten(0, 1), ids[:, -width:].flatten(), reduction="none")
    return -flat.view(-1, width)


def response_values(critic: RewardModel, ids: Tensor, mask: Tensor, width: int) -> Tensor:
    """(rows, T) the critic's value before each of the last `width` tokens."""
    return critic.per_token(ids[:, :-1], mask[:, :-1])[:, -width:]


@torch.no_grad()
def collect(
    policy: Any,
    reference: Any,
    critic: RewardModel | None,
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    ids: Mapping[str, int],
    seed: int,
    drawn: tuple[Tensor, Tensor] | None = None,
) -> Rollout:
    """Sample responses, score them, and take every log-probability and value with the training forward pass.

    Args:
        critic: None where no values are needed (they are 0 then).
        ids: `pad` and `eos`.
        drawn: responses that exist already, as `sample` returns them.

    Raises:
        StageError: a reward is not a finite number; the message names the row.
    """
    sequences, response = drawn or sample(policy, prompts, settings, ids["pad"], ids["eos"], seed)
    width = response.shape[1]
    mask = torch.cat([_prompt_mask(prompts, sequences.shape[1] - width).to(response.device), response], 1)
    parts: dict[str, list[Tensor]] = {name: [] for name in ("reward", "log_probs", "reference", "entropy", "values")}
    for rows in torch.split(torch.arange(len(sequences), device=sequences.device), settings.rows_per_forward):
        row_ids, row_mask, real = sequences[rows], mask[rows], response[rows]
        logits = response_logits(policy, row_ids, row_mask, width, settings.temperature)
        parts["log_probs"].append(torch.where(real, taken(logits, row_ids), 0))
        parts["entropy"].append(torch.where(real, pg.entropy(logits), 0))
        logits = response_logits(reference, row_ids, row_mask, width, settings.temperature)
        parts["reference"].append(torch.where(real, taken(logits, row_ids), 0))
        values = torch.zeros_like(real, dtype=torch.float32)
        parts["values"].append(values if critic is None else response_values(critic, row_ids, row_mask, width))
        parts["reward"].append(scorer(row_ids, row_mask).float())
    found = {name: torch.cat(tensors) for name, tensors in parts.items()}
    ended = ((sequences[:, -width:] == ids["eos"]) & response).any(1)
    _check_rewards(found["reward"], sequences, mask)
    return Rollout(sequences, mask, response, ended, score=_scores(found["reward"], ended, settings), **found)


def sampling_gap(policy: Any, rollout: Rollout, settings: SamplingSettings) -> float:
    """Largest |log-probability with a key-value cache − without| over the response tokens of a rollout, in nats.

    What `generate` samples from against what training computes: 1e-5 in fp32. A large gap means that the episodes are
    not the policy's (OpenRLHF #1108).
    """
    width = rollout.width
    start = rollout.ids.shape[1] - width
    prompt, places = rollout.mask[:, :start], positions(rollout.mask)
    with torch.no_grad():
        first = policy(
            input_ids=rollout.ids[:, :start], attention_mask=prompt, position_ids=places[:, :start], use_cache=True
        )
        logits, cache = [first.logits[:, -1]], first.past_key_values
        for t in range(start, start + width - 1):
            step = policy(
                input_ids=rollout.ids[:, t : t + 1],
                attention_mask=rollout.mask[:, : t + 1],
                position_ids=places[:, t : t + 1],
                past_key_values=cache,
                use_cache=True,
            )
            logits.append(step.logits[:, -1])
            cache = step.past_key_values
    cached = taken(torch.stack(logits, 1).float() / settings.temperature, rollout.ids)
    return float(torch.where(rollout.response, cached - rollout.log_probs, 0).abs().max())


def rollout_seed(seed: int, round_number: int, step: int) -> int:
    """The seed of the draw of one step: a resumed stage samples what the killed one would have sampled."""
    return derive_seed(seed, "ppo", "rollout", str(round_number), str(step))


def distinct(rollout: Rollout, n: int) -> float:
    """Distinct n-grams over all n-grams of the responses (Li 2016, arXiv 1510.03055, §5.2); 1 when there are none.

    Depends on how many tokens there are: compare batches of one size.
    """
    grams = []
    tokens = rollout.ids[:, -rollout.width :].cpu()
    for row, length in enumerate(rollout.lengths.tolist()):
        ids = tokens[row, :length].tolist()
        grams += list(zip(*(ids[k:] for k in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def _prompt_mask(prompts: Sequence[Sequence[int]], width: int) -> Tensor:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return torch.arange(width).unsqueeze(0) >= width - lengths.unsqueeze(1)


def _scores(reward: Tensor, ended: Tensor, settings: SamplingSettings) -> Tensor:
    value = settings.missing_eos_value
    if settings.missing_eos == "score":
        return torch.where(ended, reward, -value)
    if settings.missing_eos == "subtract":
        return torch.where(ended, reward, reward - value)
    return reward


def _check_rewards(reward: Tensor, ids: Tensor, mask: Tensor) -> None:
    bad = (~torch.isfinite(reward)).nonzero().flatten().tolist()
    if bad:
        row = bad[0]
        shown = ids[row][mask[row]].tolist()
        raise StageError(
            Problem(
                "reward-not-finite",
                f"the reward model returned {reward[row].item()} for {len(bad)} of {len(reward)} episodes",
                f"row {row} of the batch: tokens {shown[:8]} … {shown[-8:]}",
                "a finite number for every sequence",
                "look at the reward model: trained with too high a rate, or damaged on disk",
            )
        )
