"""What will be compared, and what would refute the thesis: written, hashed and laid into the run before training.

`register` puts `preregistration.yaml` and its sha256 into an empty run; `registered` reads them back and refuses a file
that changed since. `compare` tests nothing that does not stand in it. A setting that could never give a significant
result is refused here, before it costs a training run.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from alignment.statistics.bootstrap import DRAWS
from alignment.statistics.contrast import Scale
from alignment.statistics.multiplicity import smallest_adjusted
from alignment.statistics.sign_flip import minimum_p
from curation.errors import ConfigError, DataContractError, Problem, did_you_mean
from curation.settings import Settings, parse

FILE, HASH = "preregistration.yaml", "preregistration.sha256"


class EndpointSettings(Settings):
    """One question to the data."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    role: Literal["primary", "exploratory"]
    test: Literal["superiority", "non_inferiority", "equivalence", "difference"]
    metric: str
    stage: str
    minus_stage: str | None = Field(default=None, description="change since this stage: does the gap grow or fade")
    minus_metric: str | None = Field(default=None, description="disparity: the gap here less the gap there")
    scale: Scale = "difference"
    samples: Literal["mean", "max", "each"] = Field(default="mean", description="an item's samples become one score")
    at_least: float | None = Field(default=None, description="scores become 1 from here on, else 0")
    margin: float | None = Field(default=None, gt=0, description="largest loss that does not matter, metric's unit")
    treatment: str | None = None  # the arms of the whole file where not given
    control: str | None = None
    why: str = ""


class ExploreSettings(Settings):
    """Metrics to look at without a claim: every match becomes an exploratory endpoint."""

    metric: str = Field(description="a name, or a pattern with *")
    stage: str = "*"


class RefutationSettings(Settings):
    """A finding that refutes the thesis."""

    endpoint: str
    finding: Literal["worse", "inferior", "not_superior", "negligible"] = Field(alias="is")


class JudgeQuestion(Settings):
    """One question that several judges answer: metrics whose order of the arms should agree."""

    question: str
    stage: str
    metrics: tuple[str, ...] = Field(min_length=2)


class Preregistration(Settings):
    """The whole file."""

    kind: Literal["preregistration"]
    title: str
    thesis: str
    treatment: str
    control: str
    seeds: tuple[int, ...] = Field(min_length=1)
    endpoints: tuple[EndpointSettings, ...] = Field(min_length=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # the convention; one-sided tests against a margin use it whole
    draws: int = Field(default=DRAWS, ge=200)
    safety: Literal["every", "any"] = Field(
        default="every", description="every primary superiority endpoint has to be better, or any after Holm"
    )
    random_control: str | None = Field(default=None, description="arm that removes as much at random")
    doses: dict[str, float] = Field(default_factory=dict, description="arm → share of flagged documents removed")
    refuted_if: tuple[RefutationSettings, ...] = ()
    explore: tuple[ExploreSettings, ...] = ()
    judges: tuple[JudgeQuestion, ...] = ()
    # 5 %: with more missing, whatever made scores missing could be what differs between the arms
    max_missing: float = Field(default=0.05, ge=0, le=1)
    descriptive: bool = Field(default=False, description="too few seeds to decide anything: no verdict is drawn")

    def primary(self, *tests: str) -> list[EndpointSettings]:
        """Primary endpoints of these tests."""
        return [e for e in self.endpoints if e.role == "primary" and e.test in tests]


def read_preregistration(path: Path) -> Preregistration:
    """The file, checked.

    Raises:
        ConfigError: every problem of the file: settings, contradictions, tests that no data could pass.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(Problem("no-file", f"cannot be read: {error.strerror}", str(path))) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(Problem("not-yaml", str(error), str(path))) from None
    if not isinstance(data, dict):
        raise ConfigError(Problem("not-a-mapping", "a preregistration is a mapping of settings", str(path)))
    found = parse(Preregistration, data, str(path), "this preregistration")
    problems = [*_contradictions(found, str(path)), *_unattainable(found, str(path))]
    if problems:
        raise ConfigError(*problems)
    return found


def sha256_of(path: Path) -> str:
    """Hash of the file's bytes: a changed comment is a changed file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def register(path: Path, run: Path) -> str:
    """Lay the file and its hash into a run that has not begun to train; the same file again changes nothing.

    Returns:
        The sha256, to be written into whatever the run records.

    Raises:
        ConfigError: the file is wrong, another one is registered, or training has begun.
    """
    read_preregistration(path)
    digest = sha256_of(path)
    known = run / HASH
    if known.is_file():
        if _recorded(known) != digest:
            hint = "a changed preregistration is a new run: give it another output path"
            raise ConfigError(Problem("other-preregistration", "another one was registered", str(known), digest, hint))
        return digest
    begun = next(iter(sorted(run.glob("*/*/*/fingerprint"))), None)
    if begun is not None:
        message = "training has begun without a preregistration; what is written now was not written before"
        raise ConfigError(Problem("too-late", message, str(begun.parent), "a new output path"))
    run.mkdir(parents=True, exist_ok=True)
    for name, content in ((FILE, path.read_bytes()), (HASH, f"{digest}  {FILE}\n".encode())):
        temporary = run / f"{name}.tmp"
        temporary.write_bytes(content)
        os.replace(temporary, run / name)
    return digest


def registered(run: Path, given: Path | None = None) -> tuple[Preregistration, str]:
    """The preregistration of a run and its sha256.

    Args:
        given: a file that has to be the registered one.

    Raises:
        DataContractError: none was registered, or it is not the file that was hashed before training.
    """
    if not (run / HASH).is_file() or not (run / FILE).is_file():
        raise DataContractError(Problem("no-preregistration", "nothing was registered before training", str(run)))
    recorded = _recorded(run / HASH)
    for path in (run / FILE, *([given] if given else [])):
        found = sha256_of(path)
        if found != recorded:
            message = "is not the file that was hashed before training"
            raise DataContractError(Problem("changed-preregistration", message, f"{path}: {found}", recorded))
    return read_preregistration(run / FILE), recorded


def _recorded(path: Path) -> str:
    return path.read_text(encoding="ascii").split()[0]


def _contradictions(found: Preregistration, where: str) -> list[Problem]:
    problems = []

    def refuse(message: str, place: str, expected: str | None = None, hint: str | None = None) -> None:
        problems.append(Problem("contradiction", message, f"{where}: {place}", expected, hint))

    names = [endpoint.name for endpoint in found.endpoints]
    for name in sorted({name for name in names if names.count(name) > 1}):
        refuse(f"two endpoints are called `{name}`", "endpoints")
    for endpoint in found.endpoints:
        place = f"endpoints.{endpoint.name}"
        if endpoint.test in ("non_inferiority", "equivalence") and endpoint.margin is None:
            refuse(f"`{endpoint.test}` needs a margin", place, "margin: the largest loss that does not matter")
        if endpoint.role == "primary" and endpoint.test == "difference":
            refuse("a primary endpoint needs a direction", place, "superiority, non_inferiority or equivalence")
        if endpoint.minus_stage and endpoint.minus_metric:
            refuse("either `minus_stage` or `minus_metric`, not both", place)
        if (endpoint.treatment or found.treatment) == (endpoint.control or found.control):
            refuse("an arm is compared with itself", place)
    if len(set(found.seeds)) < len(found.seeds):
        refuse("a seed is listed twice", "seeds")
    for rule in found.refuted_if:
        if rule.endpoint not in names:
            refuse(f"`{rule.endpoint}` is not an endpoint", "refuted_if", hint=did_you_mean(rule.endpoint, names))
        elif rule.finding in ("inferior", "negligible"):
            margin = next(e.margin for e in found.endpoints if e.name == rule.endpoint)
            if margin is None:
                refuse(f"`{rule.finding}` needs a margin of `{rule.endpoint}`", "refuted_if")
    if found.doses and not 2 <= len(set(found.doses.values())) == len(found.doses):
        refuse("doses need at least two arms, each of another dose", "doses")
    if not found.descriptive and not (found.primary("superiority") and found.primary("non_inferiority", "equivalence")):
        what = "a verdict needs a primary superiority and a primary non_inferiority or equivalence endpoint"
        refuse(what, "endpoints", hint="or say `descriptive: true`: no verdict is drawn")
    return problems


def _unattainable(found: Preregistration, where: str) -> list[Problem]:
    """Tests whose smallest p is above alpha, whatever the data: refused before a training run is spent on them."""
    if found.descriptive:
        return []
    n, safety = len(found.seeds), len(found.primary("superiority"))
    least = smallest_adjusted(minimum_p(n), safety if found.safety == "any" else 1)
    hint = "more seeds, or `descriptive: true`: no verdict is drawn"
    problems = []
    if safety and least > found.alpha:
        message = f"{n} seeds and {safety} superiority endpoints cannot give p below {least:g}"
        problems.append(Problem("unattainable", message, f"{where}: seeds", f"at most alpha, {found.alpha:g}", hint))
    if found.primary("non_inferiority", "equivalence") and minimum_p(n, "less") > found.alpha:
        message = f"{n} seeds cannot show a loss to be below a margin: p is at least {minimum_p(n, 'less'):g}"
        problems.append(Problem("unattainable", message, f"{where}: seeds", f"at most alpha, {found.alpha:g}", hint))
    return problems
