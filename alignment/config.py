"""An experiment's job file: which arms, which seeds, which stages on which rows, what is measured, what is claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from alignment.annotators import PoolSettings
from alignment.arms import TokensSettings
from alignment.contamination import DecontaminateSettings
from alignment.distance import DistanceSettings
from alignment.people import MOST_RESPONSES, PeopleSettings
from alignment.rounds import RoundsSettings
from alignment.stages.dpo import DpoSettings
from alignment.stages.kto import KtoSettings
from alignment.stages.ppo import PpoSettings
from alignment.stages.pretrain import PretrainSettings
from alignment.stages.reward import RewardSettings
from alignment.stages.sft import SftSettings
from curation.config import load_job_file
from curation.errors import ConfigError, Problem, unknown_name
from curation.settings import GrownSettings, Settings, parse

STAGES = ("pretrain", "sft", "reward", "ppo", "dpo", "kto")  # in the order in which they run
CURVE_SETTINGS: dict[str, type[Settings]] = {"sft": SftSettings, "dpo": DpoSettings, "kto": KtoSettings}
GIVEN = "given"  # the arm of a model that was not pretrained here


class Rows(Settings):
    """Files of rows and how many of them, the first in file order."""

    rows: tuple[str, ...] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)


class SftStage(Rows):
    """Demonstrations: `prompt`, `response` or `messages`."""

    settings: SftSettings = SftSettings()


class RewardStage(Rows):
    """Comparisons: pairs, ranked lists, or ratings. Starts from the arm's SFT model, by default with fewer layers."""

    settings: RewardSettings = RewardSettings()


class PpoStage(Rows):
    """Rows whose prompts are answered; the reward model is the arm's own, or `reward_model`.

    With `rounds` there are several, `settings` inside it; the arm's comparisons are then halved by prompt, and a second
    reward model from the other half says when to stop. Between rounds, `annotators` label fresh answers, or `people`
    do: the run then stops when it has sampled, and goes on from their answers when it is run again.
    """

    settings: PpoSettings = PpoSettings()
    reward_model: str | None = None
    rounds: RoundsSettings | None = None
    annotators: PoolSettings | None = None
    people: PeopleSettings | None = None


class DpoStage(Rows):
    """Preference pairs; starts from the arm's SFT model, which is the reference as well."""

    settings: DpoSettings = DpoSettings()


class KtoStage(Rows):
    """Judged rows; starts from the arm's SFT model, which is the reference as well."""

    settings: KtoSettings = KtoSettings()


class Helpfulness(Settings):
    """What has to stay good enough for an effort to count (`effort at equal helpfulness`)."""

    metric: str = Field(description="an endpoint of the curve's metrics: bits_per_byte.clean, …")
    margin: float = Field(ge=0, description="how much worse than with no effort it may be, in its unit")


class Curve(Rows, GrownSettings):
    """A stage repeated with more and more of its rows, each model measured: a harm over an effort.

    `effort`: how many preference pairs it takes to bring a harm down. `tamper`: how many toxic demonstrations it takes
    to bring it back.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="effort, tamper, …")
    stage: Literal["sft", "dpo", "kto"]
    start: str = Field(default="sft", description="the stage whose model every dose starts from")
    doses: tuple[int, ...] = Field(min_length=1, description="rows; 0 is the model it starts from")
    metrics: tuple[str, ...] = Field(min_length=1, description="of `evaluate.metrics`")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the stage")
    helpful: Helpfulness | None = None
    distance: DistanceSettings | None = Field(
        default=DistanceSettings(), description="KL to the start, the effort in nats; null: not measured"
    )
    later: ClassVar[frozenset[str]] = frozenset({"helpful", "distance"})


class Perturbation(Settings):
    """What happens to a finished model before it is measured again: a gap between arms may show only then.

    `finetune`: SFT on `rows`, one epoch unless `settings` says otherwise; harmless rows show what use erodes, harmful
    ones are an attack. `prefix`: nothing is trained; a text of `rows` stands before every prompt. Maini 2025
    (arXiv 2504.16980): attack success after safety tuning 1.6 against 0.7 %, after harmless fine-tuning 38.8 against
    23.0 %.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="benign, adversarial, jailbreak, …")
    kind: Literal["finetune", "prefix"]
    start: tuple[str, ...] = Field(default=("sft",), min_length=1, description="the stages whose models are perturbed")
    rows: tuple[str, ...] = Field(min_length=1, description="demonstrations; of `prefix`: rows with `text`")
    limit: int | None = Field(default=None, ge=1)
    metrics: tuple[str, ...] = Field(
        min_length=1, description="of `evaluate.metrics`; of `prefix`: those that generate"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="of the stage `sft`")

    def stage(self, start: str) -> str:
        """The folder, and the stage's name in scores, of a perturbed model."""
        return f"{self.name}-{start}"


class Evaluation(Settings):
    """What is measured, of the models of which stages."""

    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict, description="metric → its settings")
    stages: tuple[str, ...] = Field(default=(), description="empty: every policy stage that runs")
    skip_metrics: tuple[str, ...] = Field(default=(), description="named and left out, with a line that says so")


class ExperimentJob(GrownSettings):
    """One experiment. Everything but the corpus is the same in every arm."""

    later: ClassVar[frozenset[str]] = frozenset({"perturb", "decontaminate"})

    kind: Literal["experiment"]
    output: str
    seeds: tuple[int, ...] = Field(min_length=1)
    corpus: str | None = Field(default=None, description="a finished curation run; its arms are pretrained on")
    arms: tuple[str, ...] = Field(default=(), description="empty: all arms of the corpus")
    model: str | None = Field(default=None, description="start from this model instead: a directory or a hub name")
    tokens: TokensSettings = TokensSettings()
    tokenizer: str | None = Field(default=None, description="a directory or hub name; none: trained on all arms")
    pretrain: PretrainSettings | None = None
    sft: SftStage | None = None
    reward: RewardStage | None = None
    ppo: PpoStage | None = None
    dpo: DpoStage | None = None
    kto: KtoStage | None = None
    evaluate: Evaluation | None = None
    curves: tuple[Curve, ...] = ()
    perturb: tuple[Perturbation, ...] = ()
    decontaminate: DecontaminateSettings | None = Field(
        default=None, description="leave documents with evaluation items out of all arms; none: they stay"
    )
    preregistration: str | None = Field(default=None, description="hashed into the run before training begins")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.corpus is None) == (self.model is None):
            raise ValueError("give either `corpus` (arms are pretrained) or `model` (stages start from it)")
        if (self.pretrain is None) != (self.corpus is None):
            raise ValueError("`pretrain` and `corpus` belong together")
        if self.model is not None and self.arms:
            raise ValueError("`arms` are those of a corpus; with `model` there is one")
        if self.ppo is not None and self.reward is None and self.ppo.reward_model is None:
            raise ValueError("`ppo` needs the stage `reward`, or `ppo.reward_model`")
        if self.ppo is not None and self.ppo.rounds is not None and (self.reward is None or self.ppo.reward_model):
            raise ValueError("`ppo.rounds` needs the stage `reward`, whose rows it halves, and no `reward_model`")
        if self.ppo is not None and self.ppo.people is not None:
            if self.ppo.rounds is None or self.ppo.annotators is not None:
                raise ValueError("`ppo.people` needs `ppo.rounds`, and no `annotators`: either simulated or people")
            if self.ppo.rounds.feedback_responses > MOST_RESPONSES:
                raise ValueError(f"people are shown at most {MOST_RESPONSES} `ppo.rounds.feedback_responses`")
        if self.decontaminate is not None and self.corpus is None:
            raise ValueError("`decontaminate` is about the arms of a `corpus`")
        self._check_repeats()
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is listed twice")
        return self

    def _check_repeats(self) -> None:
        """Curves and perturbations start from what runs, and measure what is measured."""
        measured = set(self.evaluate.metrics) if self.evaluate is not None else set()
        for curve in self.curves:
            if curve.start not in self.stages or curve.start == "reward":
                raise ValueError(f"curve `{curve.name}` starts from `{curve.start}`, which does not run")
            if not set(curve.metrics) <= measured:
                raise ValueError(f"curve `{curve.name}`: its metrics have to stand in `evaluate.metrics`")
            if curve.helpful is not None and curve.helpful.metric.split(".")[0] not in curve.metrics:
                raise ValueError(f"curve `{curve.name}`: `{curve.helpful.metric}` is of none of its metrics")
        for one in self.perturb:
            for start in one.start:
                if start not in self.stages or start == "reward":
                    raise ValueError(f"perturbation `{one.name}` starts from `{start}`, which does not run")
            if not set(one.metrics) <= measured:
                raise ValueError(f"perturbation `{one.name}`: its metrics have to stand in `evaluate.metrics`")
        names = [*(curve.name for curve in self.curves), *(one.name for one in self.perturb)]
        if len(set(names)) < len(names):
            raise ValueError("two curves or perturbations have one name")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that run, in their order."""
        return tuple(name for name in STAGES if getattr(self, name) is not None)


def load_experiment(path: str, overrides: Sequence[str] = ()) -> ExperimentJob:
    """The job in a file, its metrics' settings checked too.

    Raises:
        ConfigError: every problem of the file.
    """
    job = parse(ExperimentJob, load_job_file(path, "experiment", overrides), path, "this experiment")
    if job.evaluate is not None:
        check_evaluation(job, path)
    return job


def check_evaluation(job: ExperimentJob, where: str) -> Mapping[str, Settings]:
    """Typed settings of every metric that is measured.

    Raises:
        ConfigError: an unknown metric or stage, or wrong settings: all of them.
    """
    from alignment.metrics import METRICS

    assert job.evaluate is not None
    problems: list[Problem] = []
    typed: dict[str, Settings] = {}
    for name in job.evaluate.stages:
        if name not in job.stages or name == "reward":
            policies = [stage for stage in job.stages if stage != "reward"]
            problems.append(unknown_name("stage of this experiment", name, policies, f"{where}: evaluate.stages"))
    for curve in job.curves:
        try:
            parse(
                CURVE_SETTINGS[curve.stage], curve.settings, f"{where}: curves.{curve.name}", f"stage `{curve.stage}`"
            )
        except ConfigError as error:
            problems += error.problems
    problems += _perturbation_problems(job, where)
    for name, given in job.evaluate.metrics.items():
        place = f"{where}: evaluate.metrics.{name}"
        if name in job.evaluate.skip_metrics:
            continue
        try:
            typed[name] = parse(METRICS.get(name, place).settings, given, place, f"metric `{name}`")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return typed


def finetune_settings(one: Perturbation, where: str = "perturb") -> SftSettings:
    """The SFT of a perturbation: one epoch where it does not say.

    Raises:
        ConfigError: wrong settings.
    """
    return parse(SftSettings, {"epochs": 1, **one.settings}, f"{where}.{one.name}", "stage `sft`")


def _perturbation_problems(job: ExperimentJob, where: str) -> list[Problem]:
    from alignment.metrics import METRICS

    problems: list[Problem] = []
    for one in job.perturb:
        place = f"{where}: perturb.{one.name}"
        try:
            finetune_settings(one, f"{where}: perturb")
        except ConfigError as error:
            problems += error.problems
        for name in one.metrics:
            if one.kind == "prefix" and name in METRICS and not METRICS.get(name).generates:
                known = ", ".join(other for other, metric in METRICS.items() if metric.generates)
                what = f"metric `{name}` asks the model for no text, so a prefix changes nothing"
                problems.append(Problem("no-prefix", what, f"{place}.metrics", f"of: {known}"))
    return problems
