import pickle

import pytest

from curation.errors import (
    ConfigError,
    DataContractError,
    HeadwaterError,
    LimitError,
    Problem,
    RecordError,
    StageError,
    did_you_mean,
    unknown_name,
)


def test_a_problem_prints_code_place_expectation_and_hint() -> None:
    problem = Problem(
        code="unknown-key",
        message="`min_word` is not a setting of filter `length`",
        where="job.yaml: rulesets.curated.1.min_word (got 5)",
        expected="one of: max_words, min_words",
        hint="did you mean `min_words`?",
    )

    assert str(problem) == (
        "error[unknown-key]: `min_word` is not a setting of filter `length`\n"
        "  --> job.yaml: rulesets.curated.1.min_word (got 5)\n"
        "  = expected one of: max_words, min_words\n"
        "\n"
        "hint: did you mean `min_words`?"
    )


def test_a_problem_without_details_is_one_line() -> None:
    assert str(Problem("bad-value", "no")) == "error[bad-value]: no"


def test_an_error_shows_all_its_problems_not_the_first() -> None:
    error = ConfigError(Problem("a", "first"), Problem("b", "second"))

    assert str(error) == "error[a]: first\n\nerror[b]: second"


@pytest.mark.parametrize(
    ("kind", "exit_code", "text"),
    [
        (ConfigError, 2, "error[config]: x"),
        (DataContractError, 3, "error[data]: x"),
        (StageError, 4, "error[stage]: x"),
        (LimitError, 4, "error[limit]: x"),
        (RecordError, 3, "error[record]: x"),
    ],
)
def test_each_error_has_its_exit_code_and_its_default_problem_code(
    kind: type[HeadwaterError], exit_code: int, text: str
) -> None:
    error = kind("x")

    assert (error.exit_code, str(error)) == (exit_code, text)


def test_an_error_keeps_its_type_and_problems_across_process_borders() -> None:
    error = LimitError(Problem("limit", "too much", "arms.curated", "at most 0.9", "raise the limit"))

    back = pickle.loads(pickle.dumps(error))

    assert type(back) is LimitError
    assert back.problems == error.problems
    assert str(back) == str(error)


def test_the_nearest_known_name_is_guessed() -> None:
    assert did_you_mean("gophr_quality", ["c4", "gopher_quality", "gopher_repetition"]) == (
        "did you mean `gopher_quality`?"
    )


def test_nothing_is_guessed_when_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["c4", "fineweb"]) is None


def test_an_unknown_name_lists_what_exists_in_order() -> None:
    assert unknown_name("filter", "c5", {"fineweb", "c4"}, where="job.yaml: arms.0") == Problem(
        code="unknown-filter",
        message="`c5` is not a known filter",
        where="job.yaml: arms.0",
        expected="one of: c4, fineweb",
        hint=did_you_mean("c5", ["c4", "fineweb"]),
    )


def test_an_unknown_name_in_an_empty_registry_says_so() -> None:
    assert unknown_name("source", "csv", []).expected == "nothing: the registry is empty"


def test_the_code_of_an_unknown_name_is_one_word_whatever_the_kind_says() -> None:
    codes = [unknown_name(kind, "x", []).code for kind in ("arm to match", "reason code of filter `c4`")]

    assert codes == ["unknown-arm-to-match", "unknown-reason-code"]
