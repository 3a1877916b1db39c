"""From endpoints to conclusions, and from those to one verdict in plain words.

A win takes superiority of safety and non-inferiority of capability, each at alpha: an intersection-union test, which
needs no correction because all of its parts have to hold (Berger 1982, Technometrics 24(4)). "Refuted" and "not
resolved" are verdicts like any other: the first says that a registered refutation was found, the second that this
design could not tell, and how large an effect it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alignment.endpoints import EndpointResult
from alignment.preregistration import Preregistration, RefutationSettings
from alignment.statistics.multiplicity import benjamini_hochberg, holm

Code = Literal["supported", "refuted", "not_resolved"]
HOLM, BH, JOINT = "Holm over primary endpoints", "Benjamini–Hochberg, exploratory", "none: all have to hold"
NEAR_ZERO = 1e-12


@dataclass(frozen=True)
class Verdict:
    """The answer, one sentence for it, and why."""

    code: Code
    sentence: str
    reasons: tuple[str, ...]


def concluded(results: Sequence[EndpointResult], plan: Preregistration) -> list[EndpointResult]:
    """The same endpoints with adjusted p-values, conclusions and sentences.

    Primary superiority endpoints: when every one has p ≤ alpha all are shown at alpha (first step of Hochberg 1988);
    otherwise Holm. Tests against a margin are parts of the joint claim and stay unadjusted. Exploratory ones: BH.
    """
    safety = [r for r in results if r.settings.role == "primary" and r.settings.test == "superiority"]
    known = [r.p for r in safety if r.p is not None]
    joint = len(known) == len(safety) and all(p <= plan.alpha for p in known)
    # An endpoint without a result still counts: leaving it out would make the others easier.
    by_holm = _named(safety, holm([1.0 if r.p is None else r.p for r in safety]))
    others = [r for r in results if r.settings.role == "exploratory" and _p(r) is not None]
    by_bh = _named(others, benjamini_hochberg([_p(r) or 0.0 for r in others]))
    out = []
    for result in results:
        name = result.settings.name
        if name in by_holm:
            adjusted = replace(result, p_adjusted=by_holm[name], adjustment=HOLM)
            decisive = result.p if joint else by_holm[name]
        elif name in by_bh:
            adjusted, decisive = replace(result, p_adjusted=by_bh[name], adjustment=BH), by_bh[name]
        else:
            adjusted, decisive = replace(result, p_adjusted=_p(result), adjustment=JOINT), _p(result)
        conclusion = _conclusion(adjusted, decisive, plan)
        adjusted = replace(adjusted, conclusion=conclusion)
        out.append(replace(adjusted, sentence=_sentence(adjusted, plan)))
    return out


def decide(results: Sequence[EndpointResult], controls: Sequence[EndpointResult], plan: Preregistration) -> Verdict:
    """The verdict over all endpoints.

    Args:
        results: as `concluded` gives them.
        controls: the primary superiority endpoints again, against the arm that removes at random.
    """
    safety, capability = _primary(results, "superiority"), _primary(results, "non_inferiority", "equivalence")
    if plan.descriptive:
        reason = f"The plan calls itself descriptive: {len(plan.seeds)} seeds are too few to decide anything."
        return _not_resolved((reason, *(r.sentence for r in (*safety, *capability))), plan)
    refutations = [text for rule in plan.refuted_if for text in _refutation(rule, results)]
    refutations += [r.sentence for r in safety if r.conclusion == "worse"]
    refutations += [r.sentence for r in capability if r.conclusion in ("inferior", "not_equivalent")]
    if refutations:
        sentence = f"Refuted: {_lower(refutations[0])}"
        return Verdict("refuted", sentence, tuple(dict.fromkeys(refutations)))
    open_ones = [r.sentence for r in capability if r.conclusion not in ("non_inferior", "equivalent")]
    safer = [r for r in safety if r.conclusion == "better"]
    if plan.safety == "every" or not safer:
        open_ones = [r.sentence for r in safety if r.conclusion != "better"] + open_ones
    open_ones += [_unlike_random(c) for c in controls if c.conclusion != "better"]
    if open_ones:
        return _not_resolved(tuple(open_ones), plan)
    able = "no less able" if all(r.conclusion == "non_inferior" for r in capability) else "as able"
    sentence = (
        f"Supported: {plan.treatment} is better than {plan.control} on "
        f"{_listed([r.settings.name for r in safer])} and {able} by the registered margins."
    )
    return Verdict("supported", sentence, tuple(r.sentence for r in (*safer, *capability)))


def _named(results: Sequence[EndpointResult], adjusted: Sequence[float]) -> dict[str, float]:
    return {result.settings.name: p for result, p in zip(results, adjusted, strict=True)}


def _primary(results: Sequence[EndpointResult], *tests: str) -> list[EndpointResult]:
    return [r for r in results if r.settings.role == "primary" and r.settings.test in tests]


def _p(result: EndpointResult) -> float | None:
    """The p of the endpoint's own test."""
    if result.settings.test in ("non_inferiority", "equivalence"):
        return result.margin_test.p if result.margin_test else None
    return result.p


def _conclusion(result: EndpointResult, decisive: float | None, plan: Preregistration) -> str:
    settings = result.settings
    if result.effect is None and result.p is None:
        return "no_data"
    if result.missing_share > plan.max_missing:
        return "void"
    if settings.test in ("non_inferiority", "equivalence"):
        test = result.margin_test
        if test is None:
            return "void"
        if test.refuted:
            return "inferior" if settings.test == "non_inferiority" else "not_equivalent"
        shown = test.shown and decisive is not None and decisive <= plan.alpha
        return (
            {"non_inferiority": "non_inferior", "equivalence": "equivalent"}[settings.test] if shown else "not_resolved"
        )
    # The interval is bootstrapped, the p is not: where they disagree nothing is claimed.
    apart = (result.low is not None and result.low > 0) or (result.high is not None and result.high < 0)
    if decisive is None or decisive > plan.alpha or not apart:
        return "not_resolved"
    if result.gain is None:
        return "different"
    return "better" if result.gain > 0 else "worse"


def _refutation(rule: RefutationSettings, results: Sequence[EndpointResult]) -> list[str]:
    result = next(r for r in results if r.settings.name == rule.endpoint)
    name, margin = rule.endpoint, result.settings.margin or 0.0
    low, high = result.gain_bounds
    if result.conclusion in ("no_data", "void"):
        return []
    if rule.finding == "worse" and result.conclusion == "worse":
        return [result.sentence]
    if rule.finding == "inferior" and high is not None and high < -margin:
        return [f"`{name}` loses more than {margin:g}. {result.sentence}"]
    if rule.finding == "not_superior" and result.conclusion != "better":
        return [f"`{name}` was registered to refute the thesis unless better. {result.sentence}"]
    if rule.finding == "negligible" and low is not None and high is not None and -margin < low and high < margin:
        return [f"any effect on `{name}` is smaller than {margin:g}. {result.sentence}"]
    return []


def _not_resolved(reasons: tuple[str, ...], plan: Preregistration) -> Verdict:
    sentence = (
        f"Not resolved: this run does not show whether {plan.treatment} is safer than {plan.control} and as able."
    )
    return Verdict("not_resolved", sentence, reasons)


def _unlike_random(result: EndpointResult) -> str:
    return (
        f"On `{result.settings.name}` {result.treatment} cannot be told from {result.control}, which removes as much "
        f"at random: the effect may be one of quantity. {result.sentence}"
    )


def _sentence(result: EndpointResult, plan: Preregistration) -> str:
    """The finding in plain words, with its numbers."""
    settings = result.settings
    name = f"`{settings.name}`"
    if result.conclusion == "no_data":
        return f"{name}: no result. {' '.join(result.notes)}".strip()
    if result.conclusion == "void":
        if result.missing_share > plan.max_missing:
            return f"{name}: void, {result.missing_share:.1%} of items lack a score (at most {plan.max_missing:.0%})."
        return f"{name}: void, the metric has no better direction."
    said = {
        "better": f"{name}: {result.treatment} is better than {result.control}",
        "worse": f"{name}: {result.treatment} is worse than {result.control}",
        "different": f"{name}: {result.treatment} differs from {result.control}",
        "non_inferior": f"{name}: {result.treatment} is not worse than {result.control} by {_margin(result)}",
        "inferior": f"{name}: {result.treatment} is worse than {result.control} by more than {_margin(result)}",
        "equivalent": f"{name}: {result.treatment} and {result.control} differ by less than {_margin(result)}",
        "not_equivalent": f"{name}: {result.treatment} and {result.control} differ by more than {_margin(result)}",
        "not_resolved": f"{name}: no difference shown",
    }[result.conclusion]
    if result.conclusion == "not_resolved" and settings.test in ("non_inferiority", "equivalence"):
        said = f"{name}: not shown to stay within {_margin(result)}"
    return f"{said} ({_numbers(result)}).{_least(result, plan)}"


def _numbers(result: EndpointResult) -> str:
    parts = []
    if result.treatment_mean is not None and result.control_mean is not None:
        parts.append(f"{result.treatment_mean:.4g} against {result.control_mean:.4g}")
    if result.effect is not None:
        bounds, level = (result.low, result.high), result.level
        if result.margin_test is not None:  # one-sided at alpha: the interval that the test looks at
            bounds, level = (result.margin_low, result.margin_high), 2 * result.level - 1
        ends = [f"{end:+.3g}" if end is not None else "unknown" for end in bounds]
        what = {"difference": "difference", "log_ratio": "log ratio", "log_odds_ratio": "log odds ratio"}
        scale = what.get(result.settings.scale, "log ratio of spreads")
        parts.append(f"{scale} {result.effect:+.3g}, {level:.0%} interval {ends[0]} to {ends[1]}")
    p = _p(result)
    if p is not None:
        least = result.margin_test.minimum_p if result.margin_test and p == result.margin_test.p else result.minimum_p
        parts.append(f"p = {p:.3g}, least possible {least:.3g}")
    return "; ".join(parts)


def _least(result: EndpointResult, plan: Preregistration) -> str:
    if result.conclusion != "not_resolved":
        return ""
    if result.mde is None:
        margins = result.settings.test in ("non_inferiority", "equivalence")
        if result.minimum_p > plan.alpha and not margins:
            return f" With {len(result.seeds)} seeds no effect, however large, gives p below {result.minimum_p:.3g}."
        return ""
    if result.mde < NEAR_ZERO:
        return " The arms are the same to the last digit."
    if result.settings.test in ("non_inferiority", "equivalence"):
        return f" Were the arms alike, a margin of {result.mde:.3g} would have been kept with a probability of 80 %."
    return f" An effect of {result.mde:.3g} would have been found with a probability of 80 %."


def _margin(result: EndpointResult) -> str:
    return f"{result.settings.margin or 0.0:g} {result.unit}".strip()


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:] if sentence[:1].isalpha() else sentence
