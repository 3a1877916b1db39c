"""A checkpoint is whole or not there, and what damage does to a stage is said aloud."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import full_disk

from alignment import checkpoint
from curation.errors import DataContractError, StageError


def state(value: float) -> dict[str, Any]:
    return {"weights": torch.full((3,), value), "step": int(value), "nested": {"list": [1, 2.5, None, "text"]}}


def steps(folder: Path) -> list[str]:
    return [path.name.rpartition("-")[0] for path in checkpoint.finished(folder)]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c", 7, state(7))

    found = checkpoint.load(path)
    assert torch.equal(found.pop("weights"), torch.full((3,), 7.0))
    assert found == {"step": 7, "nested": {"list": [1, 2.5, None, "text"]}}


def test_the_newest_two_are_kept_and_leavings_of_killed_runs_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000000001.tmp").write_bytes(b"half a checkpo")
    for step in (2, 10, 30):
        checkpoint.save(tmp_path, step, state(step))

    assert steps(tmp_path) == ["checkpoint-000000010", "checkpoint-000000030"]
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_checkpoint_there_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000000001.tmp").write_bytes(b"half a checkpo")
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    path = checkpoint.save(tmp_path, 2, state(2))
    _damage(path, damage)

    found = checkpoint.newest(tmp_path)

    assert found is not None
    assert found["step"] == 1
    warning = capsys.readouterr().err
    assert str(path) in warning
    assert "going on from checkpoint-000000001" in warning


def test_when_every_checkpoint_is_damaged_the_stage_stops_instead_of_beginning_anew(tmp_path: Path) -> None:
    paths = [checkpoint.save(tmp_path, step, state(step)) for step in (1, 2)]
    for path in paths:
        _damage(path, "flipped")

    with pytest.raises(DataContractError) as caught:
        checkpoint.newest(tmp_path)

    assert [problem.code for problem in caught.value.problems] == ["corrupt-checkpoint"] * 2 + ["no-checkpoint"]
    assert f"delete {tmp_path}" in str(caught.value)


def test_a_checkpoint_that_carries_code_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"harmful": Path("/")})  # a pickled class, not plain data

    with pytest.raises(DataContractError, match="cannot be read"):
        checkpoint.load(path)


def test_every_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float, float]:
        return random.random(), random.gauss(0, 1), float(np.random.normal()), float(torch.rand(()))

    random.gauss(0, 1)  # leaves a second normal number behind, as numpy's does
    np.random.normal()
    path = checkpoint.save(tmp_path, 1, {"rng": checkpoint.rng_state()})
    expected = [drawn() for _ in range(3)]
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)

    checkpoint.set_rng_state(checkpoint.load(path)["rng"])

    assert [drawn() for _ in range(3)] == expected


def test_a_full_disk_is_a_clear_error_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    with full_disk(100_000), pytest.raises(StageError, match="checkpoint-not-written") as caught:
        checkpoint.save(tmp_path, 2, {"weights": torch.zeros(1_000_000)})

    assert "free some space and run the same command again" in str(caught.value)
    assert steps(tmp_path) == ["checkpoint-000000001"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]
    assert checkpoint.newest(tmp_path) is not None


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StageError, match="checkpoint-not-written"):
        checkpoint.save(tmp_path / "file" / "checkpoints", 1, state(1))


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content) if how == "flipped" else bytes(content[: len(content) // 2 if how == "cut" else 0]))
