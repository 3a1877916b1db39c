"""A stage on disk: what is finished is not repeated, what is other is not written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from full_disk import full_disk

from alignment.loop import Progress
from alignment.stage import StageResult, finish_stage, finished_stage
from curation.errors import ConfigError, DataContractError, StageError


def finish(folder: Path) -> StageResult:
    progress = Progress(step=5, tokens=400, wall_s=1.23456, means={"loss": 2.0})
    return finish_stage(folder, "sft", "f00d", "abc", progress, {"loss": 2.0}, {"kept": 3}, arm="raw", seed=7)


def test_a_folder_that_was_never_used_is_claimed(tmp_path: Path) -> None:
    assert finished_stage(tmp_path / "a" / "b", "f00d") is None
    assert (tmp_path / "a" / "b" / "fingerprint").read_text() == "f00d\n"


def test_an_unfinished_stage_of_the_same_settings_goes_on(tmp_path: Path) -> None:
    finished_stage(tmp_path, "f00d")
    assert finished_stage(tmp_path, "f00d") is None


def test_a_finished_stage_gives_its_result_again(tmp_path: Path) -> None:
    finished_stage(tmp_path, "f00d")
    (tmp_path / "checkpoints").mkdir()
    result = finish(tmp_path)

    assert result == StageResult(
        stage="sft",
        path=str(tmp_path),
        fingerprint="f00d",
        weights_sha256="abc",
        steps=5,
        tokens_seen=400,
        wall_s=1.235,
        metrics={"loss": 2.0},
        rows={"kept": 3},
        arm="raw",
        seed=7,
    )
    assert finished_stage(tmp_path, "f00d") == result
    assert not (tmp_path / "checkpoints").exists()


def test_a_finished_stage_that_was_moved_says_where_it_is_now(tmp_path: Path) -> None:
    finished_stage(tmp_path / "here", "f00d")
    finish(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    found = finished_stage(tmp_path / "there", "f00d")
    assert found is not None
    assert found.path == str(tmp_path / "there")


def test_what_other_settings_made_is_refused_and_left_alone(tmp_path: Path) -> None:
    finished_stage(tmp_path, "f00d")
    with pytest.raises(ConfigError, match="made by other settings or inputs"):
        finished_stage(tmp_path, "beef")
    assert (tmp_path / "fingerprint").read_text() == "f00d\n"


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "sft"}', json.dumps({"unknown": 1})])
def test_a_result_that_cannot_be_read_is_a_clear_error(tmp_path: Path, content: str) -> None:
    finished_stage(tmp_path, "f00d")
    (tmp_path / "stage.json").write_text(content)
    with pytest.raises(DataContractError, match="bad-stage"):
        finished_stage(tmp_path, "f00d")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StageError, match="not-writable"):
        finished_stage(tmp_path / "file" / "stage", "f00d")


def test_a_full_disk_at_the_end_leaves_the_checkpoints_for_another_try(tmp_path: Path) -> None:
    finished_stage(tmp_path, "f00d")
    (tmp_path / "checkpoints").mkdir()
    with full_disk(10), pytest.raises(StageError, match="not-writable"):
        finish(tmp_path)

    assert (tmp_path / "checkpoints").is_dir()
    assert finished_stage(tmp_path, "f00d") is None
    assert finish(tmp_path) == finished_stage(tmp_path, "f00d")
