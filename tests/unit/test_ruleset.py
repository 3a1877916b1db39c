"""Rulesets: every problem of a file in one message, prefixes that do not clash, settings that are measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.errors import ConfigError, Problem, unknown_name
from curation.filters import FILTERS
from curation.ruleset import Ruleset, load_ruleset, merge_rules, shipped_rulesets

SHIPPED = shipped_rulesets()


def problems(given: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_ruleset(given)
    return caught.value.problems


def test_the_rulesets_of_the_contract_ship() -> None:
    named = {"raw", "dedup_only", "heuristics", "blocklist", "toxicity", "sentence", "curated", "masked", "sampled"}

    assert named | {"gopher", "c4", "fineweb", "refinedweb", "dolma_toxicity"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_ruleset_resolves_under_its_own_name_and_says_what_it_does(name: str) -> None:
    found = load_ruleset(name)

    assert found.name == name
    assert found.summary
    for rule in found.rules:
        provided = {f"{rule.prefix}.{signal.name}" for signal in rule.filter.signals}
        assert rule.required <= provided
        assert set(rule.actions) <= {bound.code for bound in rule.filter.bounds(rule.settings)}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_ruleset_spelled_out_is_the_same_ruleset(name: str) -> None:
    found = load_ruleset(name)
    again = load_ruleset(found.source.model_dump(mode="json", by_alias=True))

    assert again.plain() == found.plain()
    assert load_ruleset(found.source) == found


def test_all_shipped_rulesets_that_an_issue_of_arms_compares_can_share_one_job() -> None:
    names = ["raw", "dedup_only", "heuristics", "blocklist", "toxicity", "sentence", "curated", "masked", "sampled"]

    merged = merge_rules([load_ruleset(name) for name in names])

    assert {"dedup", "blocklist", "toxicity", "sentence", "context"} <= set(merged)


def test_a_ruleset_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nrules:\n  - {filter: dedup, settings: {min_jaccard: 0.9}}\n", encoding="utf-8")

    assert load_ruleset(str(path)).plain() == {
        "name": "mine",
        "summary": "",
        "sample": None,
        "rules": [
            {
                "filter": "dedup",
                "as": "dedup",
                "action": "drop",
                "actions": {},
                "settings": {"exact": True, "near": True, "min_jaccard": 0.9},
            }
        ],
    }


def test_an_unknown_name_lists_what_ships_and_guesses() -> None:
    (problem,) = problems("curate")

    assert problem == unknown_name("ruleset", "curate", SHIPPED)
    assert problem.hint == "did you mean `curated`?"


@pytest.mark.parametrize(
    ("text", "code"), [(None, "unreadable-ruleset"), ("rules: [", "unreadable-ruleset"), ("- dedup\n", "bad-ruleset")]
)
def test_a_file_that_cannot_be_a_ruleset_is_named(tmp_path: Path, text: str | None, code: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    (problem,) = problems(str(path))

    assert (problem.code, problem.where) == (code, str(path))


def test_every_problem_of_a_ruleset_stands_in_one_message_with_its_place_and_a_near_name() -> None:
    found = problems(
        {
            "name": "mine",
            "rules": [
                {"filter": "blocklst"},
                {"filter": "blocklist", "settings": {"max_hit": 3}},
                {"filter": "context", "actions": {"usage": "mask"}},
                {"filter": "toxicity", "settings": {"max_toxicity": 2.0}},
                {"filter": "dedup"},
                {"filter": "dedup"},
            ],
        }
    )

    assert [(p.code, p.where, p.hint) for p in found] == [
        ("unknown-filter", "ruleset `mine`: rules.0", "did you mean `blocklist`?"),
        ("unknown-key", "ruleset `mine`: rules.1.settings: max_hit (got 3)", "did you mean `max_hits`?"),
        ("unknown-reason-code", "ruleset `mine`: rules.2.actions", "did you mean `use`?"),
        ("bad-value", "ruleset `mine`: rules.3.settings: max_toxicity (got 2.0)", None),
        ("repeated-filter", "ruleset `mine`", "name the second one: `as: dedup_2`"),
    ]


def test_every_problem_of_its_form_stands_in_one_message_too() -> None:
    found = problems(
        {"name": "Not A Name", "rule": 1, "rules": [{"action": "delete", "filter": "dedup", "alias": "x"}]}
    )

    assert [(p.code, p.where) for p in found] == [
        ("bad-value", "ruleset `Not A Name`: name (got 'Not A Name')"),
        ("bad-value", "ruleset `Not A Name`: rules.0.action (got 'delete')"),
        ("unknown-key", "ruleset `Not A Name`: rules.0.alias (got 'x')"),
        ("unknown-key", "ruleset `Not A Name`: rule (got 1)"),
    ]
    assert found[2].expected == "one of: action, actions, as, filter, settings"
    assert found[3].hint == "did you mean `rules`?"


def test_a_filter_may_stand_twice_under_two_names() -> None:
    found = load_ruleset(
        {
            "name": "mine",
            "rules": [
                {"filter": "toxicity", "action": "keep"},
                {"filter": "toxicity", "as": "toxic_beyond_doubt", "settings": {"max_toxicity": 0.95}},
            ],
        }
    )

    assert [(rule.prefix, rule.settings.max_toxicity, rule.action) for rule in found.rules] == [
        ("toxicity", 0.5, "keep"),
        ("toxic_beyond_doubt", 0.95, "drop"),
    ]
    assert found.required == {
        "toxicity.toxicity",
        "toxicity.spans",
        "toxic_beyond_doubt.toxicity",
        "toxic_beyond_doubt.spans",
    }


def test_two_filters_under_one_name_clash() -> None:
    rules = [{"filter": "toxicity", "as": "bad"}, {"filter": "blocklist", "as": "bad"}]

    assert [p.code for p in problems({"name": "mine", "rules": rules})] == ["repeated-filter"]


def arm(name: str, **rule: Any) -> Any:
    return load_ruleset({"name": name, "rules": [rule]})


def test_arms_that_differ_in_thresholds_share_what_is_measured() -> None:
    lax = arm("lax", filter="gopher_quality", settings={"min_words": 10})
    strict = arm("strict", filter="gopher_quality", settings={"min_words": 90})

    assert list(merge_rules([lax, strict])) == ["gopher_quality"]


def test_arms_that_measure_one_prefix_in_two_ways_are_refused_with_a_way_out() -> None:
    ours = arm("ours", filter="gopher_quality")
    theirs = arm("theirs", filter="gopher_quality", settings={"words": "datatrove"})
    other = arm("other", filter="toxicity", **{"as": "gopher_quality"})

    with pytest.raises(ConfigError) as caught:
        merge_rules([ours, theirs, other])

    assert [(p.code, p.hint) for p in caught.value.problems] == [
        ("measured-twice", "give one of them a name of its own with `as:`")
    ] * 2
    assert ["`theirs`" in p.message or "`other`" in p.message for p in caught.value.problems] == [True, True]


def test_an_alias_is_the_way_out() -> None:
    ours = arm("ours", filter="gopher_quality")
    theirs = arm("theirs", filter="gopher_quality", **{"as": "gopher_datatrove"}, settings={"words": "datatrove"})

    assert sorted(merge_rules([ours, theirs])) == ["gopher_datatrove", "gopher_quality"]


@pytest.mark.parametrize("name", FILTERS.names())
def test_what_a_filter_measures_by_are_settings_that_it_has(name: str) -> None:
    chosen = FILTERS.get(name)

    assert set(chosen.measured_by) <= set(chosen.settings_type.model_fields)


def test_the_action_of_a_code_is_found_by_its_local_name() -> None:
    (rule,) = arm("mine", filter="context", actions={"use": "mask"}).rules

    assert [rule.action_for(code) for code in ("context.use", "context.hateful")] == ["mask", "drop"]


def test_a_ruleset_cannot_be_changed_after_it_was_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Ruleset(name="mine").name = "yours"  # type: ignore[misc]
