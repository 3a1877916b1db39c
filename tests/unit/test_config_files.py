"""Job files: read, checked for their kind, overridden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.config import KINDS, apply_override, load_job_file
from curation.errors import ConfigError, Problem


def problems(path: Path | str, kind: str = "curate", overrides: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_job_file(str(path), kind, overrides)
    return caught.value.problems


def job_file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_job_file_is_the_mapping_that_stands_in_it(tmp_path: Path) -> None:
    path = job_file(tmp_path, "kind: curate\ninput: [a.jsonl]\noutput: runs/x\n")

    assert load_job_file(str(path), "curate") == {"kind": "curate", "input": ["a.jsonl"], "output": "runs/x"}


def test_a_missing_file_is_named() -> None:
    assert problems("nowhere.yaml") == (Problem("no-file", "there is no job file `nowhere.yaml`"),)


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)

    assert (problem.code, str(tmp_path) in problem.message) == ("unreadable", True)


def test_a_file_that_is_no_text_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"kind: \xff\xfe")

    assert [p.code for p in problems(path)] == ["unreadable"]


def test_a_file_that_is_no_yaml_says_where(tmp_path: Path) -> None:
    path = job_file(tmp_path, "kind: [curate\n")
    (problem,) = problems(path)

    assert problem.code == "not-yaml"
    assert problem.where == str(path)
    assert "line 2" in problem.message


@pytest.mark.parametrize("text", ["", "- kind: curate\n", "curate\n", "42\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = job_file(tmp_path, text)

    assert problems(path) == (
        Problem("not-a-mapping", "a job file is a mapping of settings", str(path), "`kind: curate` first"),
    )


@pytest.mark.parametrize("text", ["input: []\n", "kind:\n", "kind: curat\n", "kind: [curate]\n"])
def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path, text: str) -> None:
    path = job_file(tmp_path, text)
    (problem,) = problems(path)

    assert problem.code == "unknown-kind"
    assert problem.where == f"{path}: kind"
    assert problem.expected == f"one of: {', '.join(sorted(KINDS))}"
    assert problem.hint == ("did you mean `curate`?" if "curat" in text else None)


def test_a_job_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = job_file(tmp_path, "kind: fit\n")

    assert problems(path) == (Problem("other-kind", "this job is of kind `fit`", f"{path}: kind", "`curate`"),)


def test_overrides_are_yaml_and_reach_into_mappings_that_need_not_be_there(tmp_path: Path) -> None:
    path = job_file(tmp_path, "kind: curate\ndedup: {bands: 20}\n")
    overrides = ("dedup.rows=4", "limits.max_dead_fraction=0.5", "arms=[raw, curated]", "tokens=null", "output=a=b")

    assert load_job_file(str(path), "curate", overrides) == {
        "kind": "curate",
        "dedup": {"bands": 20, "rows": 4},
        "limits": {"max_dead_fraction": 0.5},
        "arms": ["raw", "curated"],
        "tokens": None,
        "output": "a=b",
    }


def test_the_last_override_of_a_setting_wins(tmp_path: Path) -> None:
    path = job_file(tmp_path, "kind: curate\n")

    assert load_job_file(str(path), "curate", ("a=1", "a=2")) == {"kind": "curate", "a": 2}


@pytest.mark.parametrize(
    ("override", "message", "expected"),
    [
        ("workers", "`--set workers`", "`--set a.b=VALUE`"),
        ("=3", "`--set =3`", "`--set a.b=VALUE`"),
        ("output.x=1", "`--set output.x=1`: `output` is not a mapping", None),
        ("input.0=a", "`--set input.0=a`: `input` is not a mapping", None),
    ],
)
def test_a_malformed_override_is_quoted(override: str, message: str, expected: str | None) -> None:
    data: dict[str, Any] = {"output": "runs", "input": ["x"]}
    with pytest.raises(ConfigError) as caught:
        apply_override(data, override)

    assert caught.value.problems == (Problem("bad-override", message, None, expected),)


def test_an_override_whose_value_is_no_yaml_is_quoted() -> None:
    with pytest.raises(ConfigError, match=r"`--set arms=\[raw`: the value is not YAML"):
        apply_override({}, "arms=[raw")
