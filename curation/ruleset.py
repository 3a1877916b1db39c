"""A ruleset: ordered filters with thresholds and actions. What an arm is, apart from its corpus.

In: a YAML file, a shipped name, or a mapping. Out: a `ResolvedRuleset`, every filter and setting checked, whose
`required` signals the passes must provide. `curation/decision.py` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from curation.errors import ConfigError, Problem, unknown_name
from curation.filters import FILTERS
from curation.filters.base import Filter
from curation.settings import Settings, parse

Action = Literal["keep", "mask", "cut", "drop_sentence", "drop", "quarantine"]
SHIPPED = Path(__file__).with_name("rulesets")


class Rule(Settings):
    """One filter of a ruleset, what differs from its defaults, and what to do with what it finds."""

    filter: str
    action: Action = "drop"
    as_: str | None = Field(default=None, alias="as")  # prefix of its signals and reasons; default: the filter's name
    actions: dict[str, Action] = Field(default={})  # reason code → action, where it differs from `action`
    settings: dict[str, Any] = Field(default={})


class Sample(Settings):
    """Random removal of as many tokens, within the same sources, as another arm removed."""

    match: str  # name of the arm whose removed token mass is matched
    seed: int = 0


class Ruleset(Settings):
    """The ruleset as written. `resolve` checks it against the registry of filters."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    summary: str = ""
    rules: tuple[Rule, ...] = ()
    sample: Sample | None = None


@dataclass(frozen=True)
class ResolvedRule:
    """A rule whose filter exists and whose settings are typed."""

    prefix: str
    filter: Filter[Any]
    settings: Any
    action: Action
    actions: Mapping[str, Action]

    def action_for(self, code: str) -> Action:
        """The action for a full reason code `<prefix>.<code>`."""
        return self.actions.get(code.removeprefix(f"{self.prefix}."), self.action)

    @cached_property
    def required(self) -> frozenset[str]:
        """Full names of the signals that judging reads."""
        return frozenset(f"{self.prefix}.{name}" for name in self.filter.needed(self.settings))

    def measured_settings(self) -> dict[str, Any]:
        """The settings that change what is measured; two rules with one prefix must agree on them."""
        dumped = self.settings.model_dump(mode="json")
        return {key: dumped[key] for key in self.filter.measured_by}


@dataclass(frozen=True)
class ResolvedRuleset:
    name: str
    summary: str
    rules: tuple[ResolvedRule, ...]
    sample: Sample | None
    source: Ruleset

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(name for rule in self.rules for name in rule.required)

    def plain(self) -> dict[str, Any]:
        """The ruleset as plain data with every default spelled out, for the manifest and the fingerprint."""
        return {
            "name": self.name,
            "summary": self.summary,
            "sample": self.sample.model_dump() if self.sample else None,
            "rules": [
                {
                    "filter": rule.filter.name,
                    "as": rule.prefix,
                    "action": rule.action,
                    "actions": dict(sorted(rule.actions.items())),
                    "settings": rule.settings.model_dump(mode="json"),
                }
                for rule in self.rules
            ],
        }


def shipped_rulesets() -> list[str]:
    """Names of the rulesets that come with Headwater."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_ruleset(given: str | Mapping[str, Any] | Ruleset) -> ResolvedRuleset:
    """A ruleset by shipped name, by path of a YAML file, or as a mapping.

    Raises:
        ConfigError: unknown name, unreadable file, or every problem found inside.
    """
    if isinstance(given, Ruleset):
        return resolve(given, f"ruleset `{given.name}`")
    if isinstance(given, Mapping):
        where = f"ruleset `{given.get('name', '?')}`"
        return resolve(parse(Ruleset, given, where, "a ruleset"), where)
    path = SHIPPED / f"{given}.yaml"
    if not path.is_file():
        path = Path(given)
        if path.suffix not in {".yaml", ".yml"}:
            raise ConfigError(unknown_name("ruleset", given, shipped_rulesets()))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(Problem("unreadable-ruleset", f"cannot read ruleset `{given}`: {error}", str(path))) from None
    if not isinstance(data, dict):
        raise ConfigError(Problem("bad-ruleset", f"a ruleset is a mapping, got {type(data).__name__}", str(path)))
    return resolve(parse(Ruleset, data, str(path), "a ruleset"), str(path))


def resolve(ruleset: Ruleset, where: str) -> ResolvedRuleset:
    """`ruleset` with every filter looked up and every setting typed; all problems in one error."""
    problems: list[Problem] = []
    rules: list[ResolvedRule] = []
    for index, rule in enumerate(ruleset.rules):
        place = f"{where}: rules.{index}"
        if rule.filter not in FILTERS:
            problems.append(unknown_name("filter", rule.filter, FILTERS.names(), place))
            continue
        chosen = FILTERS.get(rule.filter)
        try:
            settings = parse(chosen.settings_type, rule.settings, f"{place}.settings", f"filter `{rule.filter}`")
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        codes = {bound.code for bound in chosen.bounds(settings)}
        problems.extend(
            unknown_name(f"reason code of filter `{rule.filter}`", code, codes, f"{place}.actions")
            for code in rule.actions
            if code not in codes
        )
        rules.append(ResolvedRule(rule.as_ or rule.filter, chosen, settings, rule.action, rule.actions))
    problems += _prefix_clashes(rules, where)
    if problems:
        raise ConfigError(*problems)
    return ResolvedRuleset(ruleset.name, ruleset.summary, tuple(rules), ruleset.sample, ruleset)


def _prefix_clashes(rules: Sequence[ResolvedRule], where: str) -> list[Problem]:
    seen: set[str] = set()
    problems = []
    for rule in rules:
        if rule.prefix in seen:
            problems.append(
                Problem(
                    "repeated-filter",
                    f"`{rule.prefix}` stands twice in one ruleset",
                    where,
                    hint=f"name the second one: `as: {rule.prefix}_2`",
                )
            )
        seen.add(rule.prefix)
    return problems


def merge_rules(rulesets: Sequence[ResolvedRuleset]) -> dict[str, ResolvedRule]:
    """prefix → one rule to measure, over all arms of a job.

    Raises:
        ConfigError: two arms measure the same prefix with different settings.
    """
    merged: dict[str, ResolvedRule] = {}
    problems = []
    for ruleset in rulesets:
        for rule in ruleset.rules:
            other = merged.setdefault(rule.prefix, rule)
            if other.filter is not rule.filter or other.measured_settings() != rule.measured_settings():
                problems.append(
                    Problem(
                        "measured-twice",
                        f"ruleset `{ruleset.name}` measures `{rule.prefix}` with other settings than an earlier arm",
                        expected=f"{other.measured_settings()}, got {rule.measured_settings()}",
                        hint="give one of them a name of its own with `as:`",
                    )
                )
    if problems:
        raise ConfigError(*problems)
    return merged
