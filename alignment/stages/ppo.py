"""Proximal policy optimisation against a reward model, with a KL penalty to the model it started from.

An update: sample responses to `episodes` prompts, score them, give every token −β·log(π/π_ref) and the last one the
score, estimate advantages, and take `epochs` passes of clipped steps over policy and critic. Everything an update does
depends on its number, the seed and the weights alone, so a stage that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from alignment import checkpoint, processes
from alignment import policy_gradient as pg
from alignment.attention import short_attention
from alignment.compiling import compile_blocks
from alignment.loop import (
    LoopSettings,
    Optimiser,
    Progress,
    SliceOverError,
    StageSettings,
    autocast,
    wants_bf16,
)
from alignment.lora import LoraSettings, merged, save_adapter, with_lora
from alignment.metrics_log import MetricsLog, ProgressLine
from alignment.model import RewardModel, load_model, save_model, weights_sha256
from alignment.ppo_inputs import check_same_tokens, encode_prompts, encode_ptx
from alignment.ppo_update import (
    CriticObjective,
    Episodes,
    PolicyObjective,
    PtxObjective,
    UpdateSettings,
    endless,
    judge,
    summary,
    update,
)
from alignment.preference_rows import DemonstrationRow, Prompt
from alignment.rollout import (
    SamplingSettings,
    Scorer,
    check_gap,
    collect,
    distinct,
    rewards_of,
    rollout_seed,
    sampling_gap,
)
from alignment.rows import Example, check_tokenizer, counted
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.tokenizer import load_tokenizer, special_ids, tokenizer_sha256
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed
from curation.settings import Settings


class KlSettings(Settings):
    """The penalty for leaving the reference."""

    control: Literal["fixed", "adaptive"] = "fixed"
    coefficient: float = Field(default=0.05, ge=0)  # β: N+; InstructGPT 0.02; adaptive starts at 0.15 in Ziegler 2019
    target: float = Field(default=6.0, gt=0)  # nats a sequence (Ziegler 2019)
    horizon: float = Field(default=10_000.0, gt=0)  # episodes (Ziegler 2019)
    budget: float | None = Field(
        default=None, gt=0
    )  # nats a sequence: the stage ends before it learns from further out

    def controller(self) -> pg.KlControl:
        """A new controller at its start."""
        if self.control == "fixed":
            return pg.FixedKl(self.coefficient)
        return pg.AdaptiveKl(self.coefficient, self.target, self.horizon)


class PpoSettings(StageSettings):
    """Settings of one PPO stage."""

    # 1e-5 falling to 0, ε 1e-5, no weight decay: lm-human-preferences and N+. β₂ is Adam's own.
    loop: LoopSettings = LoopSettings(
        learning_rate=1e-5,
        schedule="linear",
        warmup=0.0,
        final=0.0,
        beta2=0.999,
        eps=1e-5,
        weight_decay=0.0,
        log_every=1,
    )
    critic_learning_rate: float | None = Field(default=None, ge=0)  # None: the policy's
    updates: int = Field(default=100, ge=1)
    episodes: int = Field(default=64, ge=1)  # responses an update; 512 in lm-human-preferences, N+ and InstructGPT
    sampling: SamplingSettings = SamplingSettings()
    update: UpdateSettings = UpdateSettings()
    kl: KlSettings = KlSettings()
    critic: Literal["reward", "zero"] = "reward"  # begins as the reward model (N+, IG), or as the policy with head 0
    lora: LoraSettings | None = None  # on the policy


@dataclass
class Models:
    """The models of a stage. `reference` and `scorer` stay as they are."""

    policy: Any
    reference: Any
    critic: RewardModel
    scorer: Scorer
    heldout: Scorer | None = None  # a second opinion on the same responses: is the reward model being gamed?

    def named(self) -> dict[str, torch.nn.Module]:
        """Those that are modules; a scorer may be any function."""
        return {name: model for name, model in vars(self).items() if isinstance(model, torch.nn.Module)}

    def to(self, where: torch.device) -> None:
        """Move all; switch dropout off: the ratio compares two passes, and dropout would make them differ."""
        for model in self.named().values():
            model.to(where).eval()

    def sha256(self) -> dict[str, str]:
        """Of the weights of each."""
        return {name: weights_sha256(model) for name, model in self.named().items()}

    def context(self) -> int:
        """Tokens of the longest sequence that all can read."""
        return min(_context(getattr(model, "backbone", model)) for model in self.named().values())


def ppo(
    settings: PpoSettings,
    policy: Path | str,
    reward_model: Path | str,
    prompts: Sequence[Prompt],
    folder: Path,
    seed: int,
    *,
    reference: Path | str | None = None,
    critic: Path | str | None = None,
    heldout: Path | str | None = None,
    ptx: Sequence[DemonstrationRow | str] = (),
    round_number: int = 1,
    arm: str = "",
) -> StageResult:
    """Train `policy` to raise the reward, and write it to `folder` (its critic to `folder/critic`).

    Args:
        reference: what the KL penalty pulls to; None: `policy`. In later rounds the model SFT made.
        critic: a critic to go on with, of an earlier round; None: as `settings.critic` says.
        heldout: a reward model of another seed or data half; its mean score is logged, and nothing else.
        ptx: demonstrations, or plain texts, of which `update.ptx_coefficient` keeps the likelihood up.
        round_number: part of the seeds of this stage's draws.

    Raises:
        ConfigError: models do not fit together, an option would bend sampling, or no prompt is short enough.
        SliceOverError: `loop.stop_after_s` is over; the same call goes on.
        StageError: a reward, loss or gradient is not finite, or the ratio is not 1 where it must be.
    """
    tokenizer = load_tokenizer(policy)
    check_tokenizer(tokenizer, str(policy))
    _check_settings(settings, ptx)
    models = load_models(settings, tokenizer, policy, reward_model, reference, critic, heldout)
    limit = models.context() - settings.sampling.response_tokens
    kept, fates = encode_prompts(tokenizer, prompts, limit)
    mixed, ptx_fates = encode_ptx(tokenizer, ptx, _context(models.policy))
    made_of = {
        "stage": "ppo",
        "settings": settings.model_dump(),
        "tokenizer": tokenizer_sha256(tokenizer),
        "models": models.sha256(),
        "prompts": [list(ids) for ids in kept],
        "ptx": [[list(example.prompt), list(example.response)] for example in mixed],
        "seed": seed,
        "round": round_number,
    }
    mark = fingerprint(made_of)
    done = finished_stage(folder, mark)
    if done is not None:
        return done
    models.policy = with_lora(models.policy, settings.lora, derive_seed(seed, "ppo", "lora"))
    progress = Training(settings, models, kept, special_ids(tokenizer), folder, seed, round_number, mixed).run()
    save_adapter(models.policy, folder)
    final = merged(models.policy)
    save_model(final, tokenizer, folder)
    models.critic.save(folder / "critic", tokenizer)
    rows = {**counted(fates), **{f"ptx_{name}": n for name, n in counted(ptx_fates).items()}}
    weights = weights_sha256(final)
    return finish_stage(folder, "ppo", mark, weights, progress, progress.means, rows, arm=arm, seed=seed)


class Training:
    """The updates of a stage over models in memory."""

    def __init__(
        self,
        settings: PpoSettings,
        models: Models,
        prompts: Sequence[Sequence[int]],
        ids: Mapping[str, int],
        folder: Path,
        seed: int,
        round_number: int = 1,
        ptx: Sequence[Example] = (),
    ) -> None:
        """Args: as `ppo`'s, but tokens for texts; `ids` has `pad` and `eos`."""
        self.settings, self.models, self.prompts, self.ids = settings, models, prompts, ids
        self.folder, self.seed, self.round_number = folder, seed, round_number
        among = processes.join()
        if among.count > 1:
            raise ConfigError(Problem("many-processes", f"PPO runs in one process, not in {among.count}"))
        self.where = among.device
        models.to(self.where)
        loop = settings.loop
        rate = loop.learning_rate if settings.critic_learning_rate is None else settings.critic_learning_rate
        # The rate falls to its end after the last update, not in it (lm-human-preferences: 1 − u/U): so one step more.
        steps = settings.updates + 1
        self.policy = Optimiser(models.policy, loop, steps)
        self.critic = Optimiser(models.critic, loop.model_copy(update={"learning_rate": rate}), steps)
        self.control = settings.kl.controller()
        wanted = settings.update.ptx_coefficient > 0
        self.ptx = PtxObjective(ptx, settings.update, ids["pad"], seed) if wanted else None
        self.progress = Progress()
        self.checkpoints = folder / "checkpoints"

    def run(self) -> Progress:
        """All updates, from the newest checkpoint if there is one. Raises as `ppo`."""
        self._restore()
        if self.settings.loop.compile and self.where.type == "cuda":
            compile_blocks(self.models.policy)
            compile_blocks(self.models.critic)
        progress, before, begun = self.progress, self.progress.wall_s, time.monotonic()
        line = ProgressLine(self.folder.name, self.settings.updates)
        saved = begun
        with MetricsLog(self.folder, progress.step) as log:
            while progress.step < self.settings.updates:
                numbers = self.update()
                progress.wall_s = before + time.monotonic() - begun
                if numbers is None:  # the budget is spent
                    break
                last = progress.step == self.settings.updates
                if progress.step % self.settings.loop.log_every == 0 or last:
                    log.write(progress.step, {**numbers, "wall_s": round(progress.wall_s, 3)})
                line.show(progress.step, numbers["policy_loss"], progress.tokens / max(progress.wall_s, 1e-9))
                saved = self._save_if_due(begun, saved)
        said = ", ".join(f"{name} {progress.means.get(name, 0.0):.3f}" for name in ("score", "kl", "eos_rate"))
        line.end(f"{progress.step:,} updates, {said}, {progress.wall_s:.0f} s")
        return progress

    def update(self) -> dict[str, float] | None:
        """One update: sample, judge, learn.

        Returns:
            what it logs; None when the episodes are further from the reference than `kl.budget`: nothing is learnt.
        """
        at, s = self.progress.step, self.settings
        episodes, numbers = self._episodes(at)
        if s.kl.budget is not None and numbers["kl"] > s.kl.budget:
            self.progress.means |= {"kl_budget_spent": 1.0}
            return None
        key = (self.round_number, at)
        actor = PolicyObjective(episodes, s.update, s.sampling.temperature, key, self.seed)
        values = CriticObjective(episodes, s.update, key, self.seed)
        learnt = update(self.policy, self.critic, actor, values, self.ptx, at)
        self.progress.tokens += int(learnt.pop("tokens"))
        self.control.update(numbers["kl"], s.episodes)
        self.progress.step = at + 1
        self.progress.means = {**numbers, **learnt}
        return {**self.progress.means, "episodes": (at + 1) * s.episodes, "tokens": self.progress.tokens}

    def _episodes(self, at: int) -> tuple[Episodes, dict[str, float]]:
        s, m = self.settings, self.models
        chosen = endless(len(self.prompts), at * s.episodes, s.episodes, self.seed, f"round {self.round_number}")
        prompts = [self.prompts[int(k)] for k in chosen]
        width = max(map(len, prompts)) + s.sampling.response_tokens
        bf16 = wants_bf16(s.loop.precision, self.where)
        with autocast(s.loop, self.where), short_attention(bf16, self.where, width):
            draw = rollout_seed(self.seed, self.round_number, at)
            rollout = collect(m.policy, m.reference, m.critic, m.scorer, prompts, s.sampling, self.ids, draw)
            extra = {"kl_coefficient": self.control.value}
            if m.heldout is not None:
                with torch.no_grad():
                    extra["heldout_reward"] = float(rewards_of(m.heldout, rollout.ids, rollout.mask).mean())
            if at == 0:
                extra["sampling_gap"] = sampling_gap(m.policy, rollout, s.sampling, self.ids["pad"])
                check_gap(extra["sampling_gap"], bf16)
        episodes = judge(rollout, s.update, self.control.value)
        extra |= {"distinct_1": distinct(rollout, 1), "distinct_2": distinct(rollout, 2)}
        return episodes, {**summary(episodes), **extra}

    def _restore(self) -> None:
        state = checkpoint.newest(self.checkpoints)
        if state is None:
            torch.manual_seed(self.seed)
            return
        self.policy.load(state["policy"])
        self.critic.load(state["critic"])
        self.control.value = state["kl_coefficient"]
        checkpoint.set_rng_state(state["rng"])
        self.progress = Progress(**state["progress"])

    def _save_if_due(self, begun: float, saved: float) -> float:
        """The time of the last checkpoint. Raises `SliceOverError` when the slice is over."""
        loop, now = self.settings.loop, time.monotonic()
        if self.progress.step == self.settings.updates:
            return saved
        over = loop.stop_after_s is not None and now - begun > loop.stop_after_s
        if not over and now - saved < loop.checkpoint_every_s:
            return saved
        state = {
            "policy": self.policy.state(),
            "critic": self.critic.state(),
            "kl_coefficient": self.control.value,
            "rng": checkpoint.rng_state(),
            "progress": vars(self.progress),
        }
        checkpoint.save(self.checkpoints, self.progress.step, state)
        if over:
            message = f"stopped after update {self.progress.step} of {self.settings.updates}: the slice is over"
            hint = "run the same command again: it goes on from here"
            raise SliceOverError(Problem("slice-over", message, str(self.folder), hint=hint))
        return now


def load_models(
    settings: PpoSettings,
    tokenizer: Any,
    policy: Path | str,
    reward_model: Path | str,
    reference: Path | str | None,
    critic: Path | str | None,
    heldout: Path | str | None,
) -> Models:
    """All models of a stage, each in memory of its own.

    Raises:
        ConfigError: one cannot be loaded, or reads other tokens than the policy writes.
    """
    for other in (reward_model, heldout, critic, reference):
        if other is not None:
            check_same_tokens(tokenizer, other, str(other))
    scorer = RewardModel.load(reward_model)
    model = load_model(policy)
    return Models(
        policy=model,
        reference=load_model(policy if reference is None else reference),
        critic=RewardModel.load(critic) if critic is not None else new_critic(settings, model, scorer, reward_model),
        scorer=scorer,
        heldout=None if heldout is None else RewardModel.load(heldout),
    )


def new_critic(settings: PpoSettings, policy: Any, scorer: RewardModel, reward_model: Path | str) -> RewardModel:
    """A critic in memory of its own: the reward model with its normalisation folded into the head, or a copy of the
    policy's decoder with a head of zeros (lm-human-preferences)."""
    if settings.critic == "zero":
        from copy import deepcopy

        critic = RewardModel(deepcopy(policy.get_decoder()))
        torch.nn.init.zeros_(critic.head.weight)
        return critic
    critic = RewardModel.load(reward_model)
    with torch.no_grad():
        critic.head.weight.mul_(scorer.gain)
        critic.head.bias.mul_(scorer.gain).add_(scorer.bias)
        critic.gain.fill_(1.0)
        critic.bias.fill_(0.0)
    return critic


def _context(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", 1 << 30))


def _check_settings(settings: PpoSettings, ptx: Sequence[object]) -> None:
    problems = []
    if settings.episodes < settings.update.minibatches:
        said = f"{settings.episodes} episodes cannot be {settings.update.minibatches} minibatches"
        problems.append(Problem("few-episodes", said, "ppo.episodes", "at least one episode a minibatch"))
    if settings.update.ptx_coefficient > 0 and not ptx:
        said = f"a coefficient of {settings.update.ptx_coefficient} and no rows to mix in"
        problems.append(Problem("no-ptx", said, "ppo.update.ptx_coefficient", "`ptx` rows, or a coefficient of 0"))
    if problems:
        raise ConfigError(*problems)
