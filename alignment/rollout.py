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
from pydantic import Field
from torch import Tensor
from transformers import GenerationConfig

from alignment import policy_gradient as pg
from alignment.losses import taken_log_probs
from alignment.model import RewardModel, positions
from alignment.reference import by_length, response_logits
from alignment.reward_scores import last_scores
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

# How far a log-probability may differ between `generate`'s way of computing it and training's, in nats.
GAP_LIMIT = {torch.float32: 1e-2, torch.bfloat16: 1.0}


class SamplingSettings(Settings):
    """How responses are drawn."""

    response_tokens: int = Field(default=53, ge=1)  # at most; 53: Stiennon 2020 and the N+ replication
    temperature: float = Field(default=1.0, gt=0)  # InstructGPT; lm-human-preferences has 0.7
    # Sequences through a model at once where no gradient is kept. Those of like length go together: 16 pad little and
    # stay in a CPU's cache (an update of 32 episodes costs 14 % less than with all at once). On a GPU, take all.
    rows_per_forward: int = Field(default=16, ge=1)
    # Further options of `generate`: only such as leave the distribution alone.
    options: Mapping[str, Any] = Field(default_factory=dict)
    # Without an end of text, `score`: the reward is −missing_eos_value whatever the reward model says (Stiennon 2020);
    # `subtract`: it is lowered by that (TRL); `keep`: it stays.
    missing_eos: MissingEos = "score"
    missing_eos_value: float = Field(default=1.0, ge=0)


@dataclass(frozen=True)
class Rollout:
    """One batch of episodes. W: longest prompt with response; T: longest response.

    Rows are padded on the right: what pads a row lies behind its real tokens, where the causal mask hides it.
    """

    ids: Tensor  # (rows, W) int64: prompt, response, padding
    mask: Tensor  # (rows, W) bool: real tokens
    start: Tensor  # (rows,) tokens of the prompt, where the response begins
    response: Tensor  # (rows, T) bool: tokens of the response up to and with its first end of text
    ended: Tensor  # (rows,) bool: it has an end of text
    reward: Tensor  # (rows,) what the reward model says
    score: Tensor  # (rows,) the same after what is done about a missing end of text
    log_probs: Tensor  # (rows, T) of the policy that sampled, 0 outside `response`
    reference: Tensor  # (rows, T) log-probabilities under the reference, likewise
    entropy: Tensor  # (rows, T) of the policy's distribution at each token, likewise
    values: Tensor  # (rows, T) before each token, and after the last one where there is room; 0 elsewhere

    @property
    def width(self) -> int:
        """T."""
        return self.response.shape[1]

    @property
    def lengths(self) -> Tensor:
        """(rows,) tokens of each response, its end of text included."""
        return self.response.sum(1)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """The tensors of some rows, by name; `ids` and `mask` no wider than the longest of them."""
        found = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        longest = int(found["mask"].sum(1).max())
        return {**found, "ids": found["ids"][:, :longest], "mask": found["mask"][:, :longest]}


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


def places(start: Tensor, response: Tensor, width: int) -> Tensor:
    """(rows, width) bool: where in the sequences the tokens stand that `response` (rows, T) marks."""
    at = torch.arange(width, device=start.device).unsqueeze(0)
    return (at >= start.unsqueeze(1)) & (at < (start + response.sum(1)).unsqueeze(1))


def tempered_logits(model: Any, ids: Tensor, mask: Tensor, at: Tensor, temperature: float) -> Tensor:
    """(marked, vocabulary) fp32 logits over the temperature, of the tokens marked in `at` (rows, W), row by row."""
    logits = response_logits(model, ids, mask, at).float()
    return logits if temperature == 1 else logits / temperature


def token_values(critic: RewardModel, ids: Tensor, start: Tensor, slots: Tensor) -> Tensor:
    """(marked,) the critic's value of the state before each token slot marked in `slots` (rows, T), row by row.

    Args:
        ids: (rows, W), padded on the right.
        slots: slot t is the one of token `start + t`; its state is the hidden one at `start + t − 1`.
    """
    hidden = critic.backbone(input_ids=ids, use_cache=False).last_hidden_state
    rows, columns = slots.nonzero().unbind(1)
    seen = hidden.flatten(0, 1).index_select(0, rows * ids.shape[1] + start[rows] - 1 + columns)
    with torch.autocast(ids.device.type, enabled=False):  # of a value near 8, bf16 keeps steps of 1/32
        return torch.as_tensor(critic.head(seen.to(critic.head.weight.dtype))).squeeze(-1).float()


def rewards_of(scorer: Scorer, ids: Tensor, mask: Tensor) -> Tensor:
    """(rows,) fp32 rewards of whole sequences."""
    if isinstance(scorer, RewardModel):
        return last_scores(scorer, ids, mask).float() * scorer.gain + scorer.bias
    return scorer(ids, mask).float()


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
    sampled, response = drawn or sample(policy, prompts, settings, ids["pad"], ids["eos"], seed)
    where, answers = sampled.device, sampled[:, -response.shape[1] :]
    examples = [
        Example(tuple(prompt), tuple(answer[:length]))
        for prompt, answer, length in zip(prompts, answers.tolist(), response.sum(1).tolist(), strict=True)
    ]
    padded = pad(examples, ids["pad"])
    start = torch.tensor([len(prompt) for prompt in prompts], device=where)
    whole = {"ids": padded.ids.to(where), "mask": padded.mask.to(where), "start": start, "response": response}
    names = ("log_probs", "reference", "entropy", "values")
    found = {name: torch.zeros(response.shape, device=where) for name in names}
    found["reward"] = torch.zeros(len(examples), device=where)
    for group in by_length([len(example) for example in examples], settings.rows_per_forward):
        rows = torch.tensor(group, device=where)
        width = max(len(examples[row]) for row in group)
        part_ids, part_mask = whole["ids"][rows, :width], whole["mask"][rows, :width]
        real = response[rows]
        at = places(start[rows], real, width)
        cells = rows.unsqueeze(1).expand_as(real)[real], real.nonzero()[:, 1]
        logits = tempered_logits(policy, part_ids, part_mask, at, settings.temperature)
        found["log_probs"][cells] = taken_log_probs(logits, part_ids[at])
        found["entropy"][cells] = pg.entropy(logits)
        logits = tempered_logits(reference, part_ids, part_mask, at, settings.temperature)
        found["reference"][cells] = taken_log_probs(logits, part_ids[at])
        if critic is not None:
            slots = with_next(real)
            cells = rows.unsqueeze(1).expand_as(slots)[slots], slots.nonzero()[:, 1]
            found["values"][cells] = token_values(critic, part_ids, start[rows], slots)
        found["reward"][rows] = rewards_of(scorer, part_ids, part_mask)
    _check_rewards(found["reward"], examples)
    ended = ((answers == ids["eos"]) & response).any(1)
    return Rollout(**whole, ended=ended, score=_scores(found["reward"], ended, settings), **found)


def with_next(response: Tensor) -> Tensor:
    """(rows, T) bool: `response` and the slot after it, where there is one."""
    return torch.nn.functional.pad(response[:, :-1], (1, 0), value=True)


@torch.no_grad()
def sampling_gap(policy: Any, rollout: Rollout, settings: SamplingSettings, pad_id: int) -> float:
    """Largest |log-probability as `generate` computes it − as training does| over the response tokens, in nats.

    `generate` pads prompts on the left and keeps keys and values: 1e-5 in fp32. A large gap means that the episodes
    are not the policy's (OpenRLHF #1108).
    """
    ids, starts, lengths = rollout.ids, rollout.start.tolist(), rollout.lengths.tolist()
    prompts = pad([Example(tuple(row[:n]), ()) for row, n in zip(ids.tolist(), starts, strict=True)], pad_id, "left")
    at = places(rollout.start, rollout.response, ids.shape[1])
    answers = torch.full(rollout.response.shape, pad_id, device=ids.device)
    answers[rollout.response] = ids[at]
    mask = torch.cat([prompts.mask.to(ids.device), rollout.response], 1)
    spots, begin = positions(mask), prompts.ids.shape[1]
    step = policy(
        input_ids=prompts.ids.to(ids.device), attention_mask=mask[:, :begin], position_ids=spots[:, :begin],
        use_cache=True,
    )  # fmt: skip
    worst = 0.0
    for t in range(max(lengths)):
        logits = step.logits[:, -1].float() / settings.temperature
        gap = taken_log_probs(logits, answers[:, t]) - rollout.log_probs[:, t]
        worst = max(worst, float(gap[rollout.response[:, t]].abs().max()))
        step = policy(
            input_ids=answers[:, t : t + 1], attention_mask=mask[:, : begin + t + 1],
            position_ids=spots[:, begin + t : begin + t + 1], past_key_values=step.past_key_values, use_cache=True,
        )  # fmt: skip
    return worst


def check_gap(gap: float, bf16: bool) -> None:
    """Raises StageError when `sampling_gap` is too large for the precision."""
    limit = GAP_LIMIT[torch.bfloat16 if bf16 else torch.float32]
    if not gap <= limit:
        raise StageError(
            Problem(
                "sampling-gap",
                f"generate and training differ by {gap:.3g} nats in the log-probability of a token",
                expected=f"at most {limit}",
                hint="the episodes are not the policy's own: its key-value cache or its position ids are at fault",
            )
        )


def rollout_seed(seed: int, round_number: int, step: int) -> int:
    """The seed of the draw of one step: a resumed stage samples what the killed one would have sampled."""
    return derive_seed(seed, "ppo", "rollout", str(round_number), str(step))


def distinct(rollout: Rollout, n: int) -> float:
    """Distinct n-grams over all n-grams of the responses (Li 2016, arXiv 1510.03055, §5.2); 1 when there are none.

    Depends on how many tokens there are: compare batches of one size.
    """
    grams = []
    at = places(rollout.start, rollout.response, rollout.ids.shape[1])
    for part in torch.split(rollout.ids[at].cpu(), rollout.lengths.tolist()):
        ids = part.tolist()
        grams += list(zip(*(ids[k:] for k in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def _scores(reward: Tensor, ended: Tensor, settings: SamplingSettings) -> Tensor:
    value = settings.missing_eos_value
    if settings.missing_eos == "score":
        return torch.where(ended, reward, -value)
    if settings.missing_eos == "subtract":
        return torch.where(ended, reward, reward - value)
    return reward


def _check_rewards(reward: Tensor, examples: Sequence[Example]) -> None:
    bad = (~torch.isfinite(reward)).nonzero().flatten().tolist()
    if bad:
        row = bad[0]
        shown = [*examples[row].prompt, *examples[row].response]
        raise StageError(
            Problem(
                "reward-not-finite",
                f"the reward model returned {reward[row].item()} for {len(bad)} of {len(reward)} episodes",
                f"row {row} of the batch: tokens {shown[:8]} … {shown[-8:]}",
                "a finite number for every sequence",
                "look at the reward model: trained with too high a rate, or damaged on disk",
            )
        )
