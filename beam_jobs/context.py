"""What every worker needs to know of the job, read from the run itself and kept once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from beam_jobs import io
from beam_jobs.config import CurateJob
from curation.ruleset import ResolvedRule, ResolvedRuleset, load_ruleset, merge_rules
from curation.settings import parse

JOB = "work/job.json"


@dataclass(frozen=True)
class RunContext:
    """One run: where it lies, the job, and its arms with every filter and threshold resolved."""

    run: str
    job: CurateJob
    arms: tuple[ResolvedRuleset, ...]

    @cached_property
    def rules(self) -> dict[str, ResolvedRule]:
        """Signal prefix → rule, over all arms."""
        return merge_rules(self.arms)

    @cached_property
    def required(self) -> frozenset[str]:
        """Full names of every signal that some arm judges."""
        return frozenset(name for arm in self.arms for name in arm.required)

    def rules_of(self, producer: str) -> list[ResolvedRule]:
        return [rule for _, rule in sorted(self.rules.items()) if rule.filter.producer == producer]

    @cached_property
    def deduplicates(self) -> bool:
        return bool(self.rules_of("dedup"))

    @cached_property
    def line_rules(self) -> list[ResolvedRule]:
        """The rules that judge repeated lines; without one no line is hashed."""
        return [rule for rule in self.rules_of("dedup") if rule.filter.name == "line_dedup"]

    @cached_property
    def min_line_chars(self) -> int:
        """The shortest line that some rule counts."""
        return min((rule.settings.min_chars for rule in self.line_rules), default=0)

    @cached_property
    def copies_kept(self) -> int:
        """The most copies of a line that some rule keeps."""
        return max((rule.settings.keep for rule in self.line_rules), default=0)

    @cached_property
    def scored_filters(self) -> frozenset[str]:
        """Names of the filters whose signals the classifiers make."""
        return frozenset(rule.filter.name for rule in self.rules_of("score"))

    @cached_property
    def scores_duplicates(self) -> bool:
        """Whether some arm judges classifier scores of documents that it does not drop as duplicates."""
        for arm in self.arms:
            producers = {rule.filter.producer for rule in arm.rules}
            if "score" in producers and not any(self._drops_every_copy(rule) for rule in arm.rules):
                return True
        return False

    def _drops_every_copy(self, rule: ResolvedRule) -> bool:
        """Whether `rule` drops all that the dedup pass calls a copy; an arm may be laxer than the pass."""
        if rule.filter.name != "dedup" or rule.action != "drop" or rule.actions:
            return False
        settings = rule.settings
        return bool(settings.exact and settings.near and settings.min_jaccard <= self.job.dedup.threshold)


def load_arms(job: CurateJob) -> tuple[ResolvedRuleset, ...]:
    """The job's rulesets, resolved. Raises ConfigError with the problems of the first ruleset that has any."""
    return tuple(load_ruleset(arm) for arm in job.arms)


def save_job(run: str, job: CurateJob, arms: tuple[ResolvedRuleset, ...]) -> None:
    """Put the job where every worker finds it, with rulesets from files spelled out: workers may not see the files."""
    plain = job.model_dump(mode="json", by_alias=True)
    plain["arms"] = [arm.source.model_dump(mode="json", by_alias=True) for arm in arms]
    io.write_json(io.join(run, JOB), plain)


@lru_cache(maxsize=4)
def load_context(run: str) -> RunContext:
    """The context of a run, read once a process."""
    plain: dict[str, Any] = io.read_json(io.join(run, JOB))
    job = parse(CurateJob, plain, io.join(run, JOB), "this job")
    return RunContext(run, job, load_arms(job))
