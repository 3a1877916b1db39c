"""Rounds of PPO: the policy answers, the reward model scores, weights move; between rounds people may be asked again.

    FOLDER/round-0/evaluation.json             the SFT model, measured as every round is
    FOLDER/round-<r>/people.jsonl              answers of the policy of round r − 1, for people to rank
    FOLDER/round-<r>/feedback.jsonl.zst        such answers, ranked by the annotators
    FOLDER/round-<r>/reward/                   the reward model, trained further on the rows of all rounds
    FOLDER/round-<r>/ppo/, evaluation.json     the policy of this round, and what it is like
    FOLDER/                                    the best round's model, `rounds.json`, `stage.json`

The KL penalty pulls to the SFT model in every round. What is finished is never done again: a stopped call goes on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alignment.curves import CurvePoint, write_curves
from alignment.direct import interval, prompt_key
from alignment.json_rows import write_text
from alignment.loop import LoopSettings, Progress, autocast, device
from alignment.model import RewardModel, load_model, read_json, save_model, weights_sha256
from alignment.people import People, Question, write_questions
from alignment.policy_report import PolicyReport, report
from alignment.ppo_inputs import shared_reference, split_prompts
from alignment.ppo_update import endless
from alignment.preference_rows import Comparison, DemonstrationRow, Prompt, rows_sha256
from alignment.preferences import read_comparisons, write_rows
from alignment.rollout import sample
from alignment.round_stops import Stop, fault, stop_reason
from alignment.rows import prompt_ids
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.stages.ppo import PpoSettings, ppo
from alignment.stages.reward import RewardSettings, reward
from alignment.tokenizer import load_tokenizer, special_ids
from curation.errors import ConfigError, DataContractError, Problem, StageError
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

Annotate = Callable[[Prompt, Sequence[str]], Comparison]  # ranks responses; `annotators.Pool.rank` is one
HALVES_SEED = 11  # the same halves in every arm and for every seed


class RoundsSettings(Settings):
    """How often, and when it ends."""

    rounds: int = Field(default=3, ge=1, le=100)
    ppo: PpoSettings = PpoSettings()
    refit: RewardSettings = RewardSettings()  # of the reward model after fresh feedback
    feedback_prompts: int = Field(default=256, ge=1)  # a round
    feedback_responses: int = Field(default=4, ge=2)  # to each; Ouyang 2022, section 3.5: 4 to 9
    evaluation_prompts: int = Field(default=256, ge=2)  # held-out ones at most
    held_out: float = Field(default=0.1, gt=0, lt=1)  # share of the prompts, where no evaluation prompts are given
    # The held-out reward follows d(α − β log d) in d = √KL: it rises, then falls (Gao 2022, arXiv 2210.10760, eq. 1).
    patience: int = Field(default=2, ge=1)  # rounds without a new best held-out reward, then it has converged
    least_rise: float = Field(default=0.0, ge=0)  # of the held-out reward that counts as one
    kl_budget: float | None = Field(default=None, gt=0)  # nats a sequence from the SFT model
    eos_floor: float = Field(default=0.8, ge=0, le=1)  # share of answers that end
    diversity_floor: float = Field(default=0.5, ge=0, le=1)  # of the SFT model's `policy_report.diversity`


@dataclass(frozen=True)
class Round:
    """One round; round 0 is the SFT model."""

    number: int
    policy: str
    reward_model: str
    report: PolicyReport
    admissible: bool  # within the KL budget and above both floors: it may be the result


@dataclass(frozen=True)
class RoundsResult:
    """What the rounds made, and why there are no more of them."""

    stop: Stop
    best: int  # of the admissible rounds, the one with the highest held-out reward
    rounds: tuple[Round, ...]
    stage: StageResult  # metrics: the best round's report, and `heldout_gain` over the SFT model with its 95 % interval


def rounds(
    settings: RoundsSettings,
    policy: Path | str,
    reward_model: Path | str,
    heldout: Path | str,
    prompts: Sequence[Prompt],
    folder: Path,
    seed: int,
    *,
    evaluation_prompts: Sequence[Prompt] | None = None,
    annotate: Annotate | People | None = None,
    annotators: str = "",
    rows: Sequence[Comparison] = (),
    files: Sequence[Path] = (),
    reference: Sequence[DemonstrationRow] | None = None,
    ptx: Sequence[DemonstrationRow | str] = (),
    arm: str = "",
) -> RoundsResult:
    """Improve `policy` round by round.

    Args:
        policy: the SFT model; what every round's KL penalty pulls to.
        heldout: a reward model of another seed or data half (`data_halves`). It is never trained on and never changed.
        evaluation_prompts: None: a share of `prompts`, chosen by hash.
        annotate: ranks responses; `People` are waited for. None: no fresh feedback, the reward model stays.
        annotators: who they are; with another name a folder is another run.
        rows: what `reward_model` was trained on; its refits learn from these and all feedback so far.
        files: where `rows` came from, for the data cards of the refits.
        reference: responses on which every refit is normalised, so that β means the same in every round. None: those
            of `rows`, `refit.normalise_on` of them.

    Raises:
        ConfigError: the SFT model's answers do not end, models do not fit, or `folder` holds another run.
        SliceOverError: `ppo.loop.stop_after_s` is over.
        WaitingForPeopleError: people have not answered yet; the same call goes on when they have.
        StageError: as the stages.
    """
    run = _Rounds(settings, policy, heldout, folder, seed, annotators, list(rows), list(files), reference, ptx)
    train, held = split_prompts(prompts, evaluation_prompts, settings.held_out)
    run.evaluation = run.fitting(held)[: settings.evaluation_prompts]
    mark = run.fingerprint(reward_model, train, annotate is not None)
    done = finished_stage(folder, mark)
    if done is not None:
        return _read(folder, done)
    found = [run.first(reward_model)]
    stop: Stop | None = None
    while stop is None:
        found.append(run.next(found, train, annotate))
        stop = stop_reason(settings, [one.report for one in found])
    return run.finish(found, stop, mark, arm)


@dataclass
class _Rounds:
    """One call of `rounds`."""

    settings: RoundsSettings
    policy: Path | str
    heldout: Path | str
    folder: Path
    seed: int
    annotators: str
    rows: list[Comparison]
    files: list[Path]
    reference: Sequence[DemonstrationRow] | None
    ptx: Sequence[DemonstrationRow | str]

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        self.tokenizer = load_tokenizer(self.policy)
        self.ids = special_ids(self.tokenizer)
        self.anchor = load_model(self.policy)
        self.second = RewardModel.load(self.heldout)
        self.evaluation: Sequence[Prompt] = ()
        if self.reference is None and self.rows:  # of a refit's own rows there are more every round
            self.reference = shared_reference(self.rows, self.settings.refit.normalise_on)
        context = int(getattr(self.anchor.config, "max_position_embeddings", 1 << 30))
        self.room = context - self.settings.ppo.sampling.response_tokens

    def fitting(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts that leave room for an answer.

        Raises:
            ConfigError: fewer than two do.
        """
        found = [prompt for prompt in prompts if len(prompt_ids(self.tokenizer, prompt)) <= self.room]
        if len(found) < 2:
            said = f"{len(found)} of {len(prompts)} evaluation prompts have at most {self.room} tokens"
            raise ConfigError(Problem("no-prompts", said, "evaluation_prompts", "at least 2"))
        return found

    def fingerprint(self, reward_model: Path | str, prompts: Sequence[Prompt], asked: bool) -> str:
        """Of all that the rounds depend on."""
        return fingerprint(
            {
                "stage": "rounds",
                "settings": self.settings.model_dump(),
                "policy": weights_sha256(self.anchor),
                "reward": weights_sha256(RewardModel.load(reward_model)),
                "heldout": weights_sha256(self.second),
                "prompts": [prompt_key(prompt) for prompt in prompts],
                "evaluation": [prompt_key(prompt) for prompt in self.evaluation],
                "rows": rows_sha256(self.rows),
                "reference": None if self.reference is None else rows_sha256(self.reference),
                "ptx": [row if isinstance(row, str) else rows_sha256([row]) for row in self.ptx],
                "annotators": self.annotators if asked else None,
                "seed": self.seed,
            }
        )

    def first(self, reward_model: Path | str) -> Round:
        """The SFT model itself.

        Raises:
            ConfigError: too few of its answers end: a penalty for that would teach nothing else.
        """
        found = self._measured(0, self.policy, reward_model, None)
        if found.report.eos_rate < self.settings.eos_floor:
            hint = "train SFT longer, allow more `ppo.sampling.response_tokens`, or lower `eos_floor`"
            said = f"{found.report.eos_rate:.2f} of the answers of the model that the rounds start from end"
            expected = f"at least eos_floor, {self.settings.eos_floor}"
            raise ConfigError(Problem("no-end-learnt", said, str(self.policy), expected, hint))
        return found

    def next(self, found: Sequence[Round], prompts: Sequence[Prompt], annotate: Annotate | People | None) -> Round:
        """One more round. Raises as `rounds`."""
        number, before = len(found), found[-1]
        here = self.folder / f"round-{number}"
        judge = before.reward_model
        # The first round's reward model knows what `rows` say; from then on the policy has moved to where it was not
        # trained.
        if annotate is not None and number > 1:
            self.rows += self._feedback(number, before.policy, prompts, annotate)
            refit_seed = derive_seed(self.seed, "rounds", "reward", str(number)) & 0xFFFFFFFF
            settings = self.settings.refit.model_copy(update={"loop": self._sliced(self.settings.refit.loop)})
            files = [*self.files, *(annotate.files() if isinstance(annotate, People) else ())]
            judge = reward(settings, judge, self.rows, here / "reward", refit_seed, self.reference, files).path
        # A critic of another reward model's scale would have to unlearn it.
        carried = Path(before.policy) / "critic" if number > 1 and judge == before.reward_model else None
        settings_ppo = self.settings.ppo.model_copy(update={"loop": self._sliced(self.settings.ppo.loop)})
        made = ppo(
            settings_ppo, before.policy, judge, prompts, here / "ppo", self.seed, reference=self.policy,
            critic=carried, heldout=self.heldout, ptx=self.ptx, round_number=number,
        )  # fmt: skip
        return self._measured(number, made.path, judge, found[0].report)

    def finish(self, found: Sequence[Round], stop: Stop, mark: str, arm: str) -> RoundsResult:
        """Write the best round's model and the account of all."""
        best = max((one for one in found if one.admissible), key=lambda one: (one.report.heldout_reward, -one.number))
        model = load_model(best.policy)
        save_model(model, self.tokenizer, self.folder)
        kept = {"stop": stop, "best": best.number, "rounds": [asdict(one) for one in found]}
        write_text(self.folder / "rounds.json", json.dumps(kept, indent=1, sort_keys=True) + "\n")
        write_curves(self.folder / "curves.jsonl", self._curve(found, arm))
        stages = [read_json(path) for path in sorted(self.folder.glob("round-*/*/stage.json"))]
        progress = Progress(
            step=sum(stage["steps"] for stage in stages if stage["stage"] == "ppo"),
            tokens=sum(stage["tokens_seen"] for stage in stages),
            wall_s=sum(stage["wall_s"] for stage in stages),
        )
        metrics = {name: float(value) for name, value in asdict(best.report).items() if name != "heldout_rewards"}
        gain = np.array(best.report.heldout_rewards) - np.array(found[0].report.heldout_rewards)
        metrics |= interval("heldout_gain", gain, [prompt_key(prompt) for prompt in self.evaluation])
        metrics |= {"rounds": float(len(found) - 1), "best_round": float(best.number)}
        fates = Counter[str]()
        for stage in stages:
            fates.update({f"{stage['stage']}_{name}": count for name, count in stage["rows"].items()})
        stage = finish_stage(
            self.folder, "ppo", mark, weights_sha256(model), progress, metrics, dict(fates), arm=arm, seed=self.seed
        )
        return RoundsResult(stop, best.number, tuple(found), stage)

    def _curve(self, found: Sequence[Round], arm: str) -> list[CurvePoint]:
        """Reward and second opinion over the distance from the SFT model."""
        return [
            CurvePoint(arm, self.seed, "over_optimisation", one.report.kl, "nats", name, getattr(one.report, name))
            for one in found
            for name in ("reward", "heldout_reward")
        ]

    def _measured(self, number: int, policy: Path | str, judge: Path | str, start: PolicyReport | None) -> Round:
        """A round as it is on disk, or measured now and written."""
        path = self.folder / f"round-{number}" / "evaluation.json"
        if path.is_file():
            return _round(read_json(path))
        s = self.settings.ppo
        encoded = [prompt_ids(self.tokenizer, prompt) for prompt in self.evaluation]
        seed = derive_seed(self.seed, "rounds", "evaluation")
        numbers = report(
            load_model(policy), self.anchor, RewardModel.load(judge), self.second, encoded, s.sampling, s.loop,
            self.ids, seed,
        )  # fmt: skip
        admissible = start is None or fault(self.settings, numbers, start) is None
        found = Round(number, str(policy), str(judge), numbers, admissible)
        write_text(path, json.dumps(asdict(found), indent=1, sort_keys=True) + "\n")
        return found

    def _feedback(
        self, number: int, policy: Path | str, prompts: Sequence[Prompt], annotate: Annotate | People
    ) -> list[Comparison]:
        """Answers of the policy, ranked; read back where they lie already: nobody is asked twice."""
        path = self.folder / f"round-{number}" / "feedback.jsonl.zst"
        if path.is_file():
            return list(read_comparisons(path))
        if isinstance(annotate, People):
            asked_for = path.with_name("people.jsonl")
            if not asked_for.is_file():
                write_questions(asked_for, self._questions(number, policy, prompts))
            found = annotate.rows(asked_for)
        else:
            found = [annotate(prompt, texts) for prompt, texts in self._questions(number, policy, prompts)]
        write_rows(path, found)
        return list(read_comparisons(path))  # as a call that goes on will see them

    def _questions(self, number: int, policy: Path | str, prompts: Sequence[Prompt]) -> list[Question]:
        """Prompts with at least two different answers of the policy.

        Raises:
            StageError: there is not one.
        """
        s = self.settings
        fitting = [prompt for prompt in prompts if len(prompt_ids(self.tokenizer, prompt)) <= self.room]
        order = endless(len(fitting), 0, min(len(fitting), s.feedback_prompts), self.seed, f"feedback {number}")
        asked = [fitting[int(k)] for k in order]
        found = list[Question]()
        for prompt, texts in zip(asked, self._answers(number, load_model(policy), asked), strict=True):
            different = list(dict.fromkeys(text for text in texts if text))
            if len(different) > 1:
                found.append((prompt, different))
        if not found:
            said = f"not one of {len(asked)} prompts got two different answers"
            raise StageError(Problem("no-feedback", said, str(policy), hint="the policy has collapsed"))
        return found

    def _answers(self, number: int, model: Any, prompts: Sequence[Prompt]) -> list[list[str]]:
        """`feedback_responses` texts to each prompt."""
        s, each = self.settings.ppo.sampling, self.settings.feedback_responses
        where = device()
        model.to(where).eval()
        rows = [prompt_ids(self.tokenizer, prompt) for prompt in prompts for _ in range(each)]
        texts = list[str]()
        for start in range(0, len(rows), s.rows_per_forward):
            seed = derive_seed(self.seed, "rounds", "feedback", str(number), str(start))
            with autocast(self.settings.ppo.loop, where):
                part = rows[start : start + s.rows_per_forward]
                ids, response = sample(model, part, s, self.ids["pad"], self.ids["eos"], seed)
            for row, real in zip(ids[:, -response.shape[1] :].tolist(), response.tolist(), strict=True):
                kept = [token for token, is_real in zip(row, real, strict=True) if is_real]
                texts.append(self.tokenizer.decode(kept, skip_special_tokens=True).strip())
        return [texts[k : k + each] for k in range(0, len(texts), each)]

    def _sliced(self, loop: LoopSettings) -> LoopSettings:
        """The settings of a stage inside this slice: it may last as long as the slice still does.

        A stage that is not finished takes one step even where nothing is left, so every slice gets on.
        """
        limit = self.settings.ppo.loop.stop_after_s
        if limit is None:
            return loop
        return loop.model_copy(update={"stop_after_s": max(limit - (time.monotonic() - self.begun), 1e-3)})


def data_halves(rows: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Rows for the reward model and rows for the held-out one: no prompt is in both halves."""
    halves: tuple[list[Comparison], list[Comparison]] = ([], [])
    for row in rows:
        halves[unit_hash(prompt_key(row.prompt), HALVES_SEED) >= 0.5].append(row)
    return halves


def _round(plain: Mapping[str, Any]) -> Round:
    numbers = {**plain["report"], "heldout_rewards": tuple(plain["report"]["heldout_rewards"])}
    return Round(**{**plain, "report": PolicyReport(**numbers)})


def _read(folder: Path, stage: StageResult) -> RoundsResult:
    """What a finished call returned.

    Raises:
        DataContractError: `rounds.json` is missing or damaged.
    """
    plain = read_json(folder / "rounds.json")
    try:
        return RoundsResult(plain["stop"], plain["best"], tuple(_round(one) for one in plain["rounds"]), stage)
    except (KeyError, TypeError) as error:
        where = str(folder / "rounds.json")
        raise DataContractError(Problem("bad-rounds", f"not the account of rounds: {error}", where)) from None
