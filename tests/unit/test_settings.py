from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from curation.errors import ConfigError, Problem
from curation.settings import Settings, known_keys, parse


class Length(Settings):
    min_words: Annotated[int, Field(ge=0)] = 50
    max_words: int = 100_000


class Job(Settings):
    input: tuple[str, ...]
    output: str
    length: Length = Length()
    optional: Length | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    rename: str = Field(default="x", alias="as")


def problems(data: dict[str, object]) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(Job, data, "job.yaml", "this job")
    return caught.value.problems


def test_lists_of_a_file_fill_tuples_and_defaults_fill_the_rest() -> None:
    job = parse(Job, {"input": ["a", "b"], "output": "runs", "length": {"min_words": 3}}, "job.yaml", "this job")

    assert job.model_dump() == {
        "input": ("a", "b"),
        "output": "runs",
        "length": {"min_words": 3, "max_words": 100_000},
        "optional": None,
        "share": 0.5,
        "rename": "x",
    }


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        Length().min_words = 3  # type: ignore[misc]


def test_every_problem_of_a_file_comes_in_one_message() -> None:
    found = problems({"input": ["a"], "ouput": "runs", "length": {"min_word": 5}, "share": 2.0})

    assert found == (
        Problem("missing-key", "`output` is missing from this job", "job.yaml"),
        Problem(
            "unknown-key",
            "`min_word` is not a setting of this job",
            "job.yaml: length.min_word (got 5)",
            "one of: max_words, min_words",
            "did you mean `min_words`?",
        ),
        Problem(
            "bad-value",
            "`share` of this job: Input should be less than or equal to 1",
            "job.yaml: share (got 2.0)",
        ),
        Problem(
            "unknown-key",
            "`ouput` is not a setting of this job",
            "job.yaml: ouput (got 'runs')",
            "one of: as, input, length, optional, output, share",
            "did you mean `output`?",
        ),
    )


def test_a_number_in_quotes_is_not_a_number() -> None:
    assert problems({"input": [], "output": "o", "length": {"min_words": "5"}}) == (
        Problem(
            "bad-value",
            "`length.min_words` of this job: Input should be a valid integer",
            "job.yaml: length.min_words (got '5')",
        ),
    )


def test_the_known_keys_follow_nested_and_optional_settings_and_use_aliases() -> None:
    assert known_keys(Job, ()) == ["as", "input", "length", "optional", "output", "share"]
    assert known_keys(Job, ("length",)) == ["max_words", "min_words"]
    assert known_keys(Job, ("optional",)) == ["max_words", "min_words"]
    assert known_keys(Job, ("share", "deeper")) == []
