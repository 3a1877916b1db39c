"""What cannot be run says so at once and completely; what breaks on the way leaves nothing that looks whole."""

from __future__ import annotations

import builtins
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from jobs import CHEAP_ARMS, TIDY, corpus, deal, digests, kept_ids, manifest_of, run_job, temporaries, write_jsonl

from beam_jobs import io
from curation.cli import main
from curation.errors import ConfigError, LimitError, StageError

pytestmark = pytest.mark.integration


def job_file(folder: Path, **given: Any) -> str:
    job = {"kind": "curate", "output": f"{folder}/out", "arms": CHEAP_ARMS, "workers": 1, **given}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return str(path)


def curate(capsys: pytest.CaptureFixture[str], job: str, *more: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `headwater curate`."""
    code = main(["curate", job, "--quiet", *more])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_every_problem_of_a_job_file_stands_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = job_file(tmp_path, input=[], arm=["raw"], dedup={"bnds": 3, "threshold": 2.0}, workers="two", split_mb=0)
    code, out, err = curate(capsys, job)

    assert (code, out) == (2, "")
    assert err.count("error[") == 6
    for place in (
        "input",
        "arm (got",
        "dedup.bnds (got 3)",
        "dedup.threshold (got 2.0)",
        "workers (got",
        "split_mb (got 0)",
    ):
        assert f"{job}: {place}" in err
    assert "did you mean `arms`?" in err
    assert "did you mean `bands`?" in err
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_of_one_input_is_one_problem_with_a_near_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There used to be three: one said that a string was expected, one that the list was empty."""
    job = job_file(tmp_path, input=[{"path": "a.jsonl", "formt": "jsonl"}, 7])
    code, _, err = curate(capsys, job)

    assert code == 2
    assert err.count("error[") == 2
    assert f"{job}: input.0.settings.formt (got 'jsonl')" in err
    assert "did you mean `format`?" in err
    assert f"{job}: input.1" in err


def test_unknown_rules_and_missing_inputs_are_found_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_file(tmp_path, input=["nowhere/*.jsonl"], arms=["curatd", {"name": "a", "rules": [{"filter": "c5"}]}])
    code, _, err = curate(capsys, job)

    assert code == 2
    for expected in (
        "error[no-input]: `nowhere/*.jsonl`",
        "error[unknown-ruleset]: `curatd`",
        "error[unknown-filter]: `c5`",
    ):
        assert expected in err
    assert not (tmp_path / "out").exists()


def test_an_input_that_cannot_be_opened_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing.jsonl")
    code, _, err = curate(capsys, job_file(tmp_path, input=[str(tmp_path / "gone.jsonl")]))

    assert code == 4
    assert "error[unreadable-input]" in err
    assert str(tmp_path / "gone.jsonl") in err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_data_matches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    code, _, err = curate(capsys, job_file(tmp_path, input=[str(tmp_path / "folder.jsonl")]))

    assert code == 2
    assert "error[no-input]" in err


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_inputs_without_one_record_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "empty.jsonl").write_text(text, encoding="utf-8")
    code, _, err = curate(capsys, job_file(tmp_path, input=[str(tmp_path / "empty.jsonl")]))

    assert code == 4
    assert "error[no-documents]: the inputs hold not one record" in err
    assert list((tmp_path / "out").glob("*/manifest.json")) == []
    assert not (tmp_path / "out" / "latest").exists()


def test_an_empty_file_among_others_is_an_empty_shard(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [])
    write_jsonl(tmp_path / "b.jsonl", corpus(20))
    run = run_job([tmp_path / "*.jsonl"], tmp_path / "out", arms=[*CHEAP_ARMS, "curated"])

    assert len(kept_ids(run, "raw")) == 20
    assert manifest_of(run)["shards"] == len(list((run / "arms/raw").iterdir()))


def test_a_folder_of_another_fingerprint_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "a.jsonl", corpus(20))
    run = run_job([tmp_path / "a.jsonl"], tmp_path / "out")
    manifest = manifest_of(run)
    (run / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "0123456789abcdef"}), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}

    with pytest.raises(ConfigError, match="holds a run of another fingerprint"):
        run_job([tmp_path / "a.jsonl"], tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_malformed_rows_are_dead_letters_with_place_and_reason_and_nothing_is_lost(tmp_path: Path) -> None:
    good = corpus(40)
    bad: list[Any] = [
        "{not json",
        '{"id": "no text"}',
        '{"id": "number", "text": 7}',
        '{"id": "empty", "text": ""}',
        "[1, 2]",
        '{"id": "blank", "text": " \\n\\t "}',
    ]
    rows: list[Any] = [*good[:10], *bad[:3], *good[10:], *bad[3:]]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    run = run_job([path], tmp_path / "out")
    letters = [json.loads(line) for part in (run / "dead_letter").iterdir() for line in part.read_text().splitlines()]
    manifest = manifest_of(run)

    assert len(letters) == len(bad) == manifest["dead_letters"]
    assert {letter["input"] for letter in letters} == {str(path)}
    assert all(letter["error"] for letter in letters)
    stored = path.read_bytes()
    for letter in letters:
        if letter["offset"] >= 0:
            assert stored[letter["offset"] :].startswith(letter["raw"].encode()[:20])
    for line in manifest["conservation"].values():
        assert line["read"] == len(rows) == sum(value for key, value in line.items() if key != "read")
    assert sorted(kept_ids(run, "raw")) == sorted(row["id"] for row in good)


def test_a_broken_byte_costs_one_record_not_the_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", corpus(10))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b'{"id": "broken", "text": "caf\xff\xfe"}\n'
    path.write_bytes(b"".join(lines))
    run = run_job([path], tmp_path / "out", arms=["raw"])

    assert len(kept_ids(run, "raw")) + manifest_of(run)["dead_letters"] == 10
    assert len(kept_ids(run, "raw")) >= 9


def test_a_limit_stops_the_run_loudly_and_latest_still_points_to_the_run_before(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", corpus(40))
    before = run_job([tmp_path / "a.jsonl"], tmp_path / "out")
    hollow = {"name": "hollow", "rules": [{"filter": "gopher_quality", "settings": {"min_words": 1000}}]}
    given: dict[str, Any] = {"arms": ["raw", hollow]}

    with pytest.raises(LimitError, match=r"arm `hollow`: removed or redacted by `gopher_quality`: 40 of 40"):
        run_job([tmp_path / "a.jsonl"], tmp_path / "out", limits={"from_documents": 10}, **given)
    assert (tmp_path / "out" / "latest").resolve() == before
    assert len(list((tmp_path / "out").glob("[!l]*/manifest.json"))) == 1

    after = run_job([tmp_path / "a.jsonl"], tmp_path / "out", limits={"max_removed_fraction": 1.0}, **given)
    assert (tmp_path / "out" / "latest").resolve() == after
    assert kept_ids(after, "hollow") == []


# --- a full disk


def whole_files_only(output: Path) -> None:
    """Every Parquet file can be read, and every marker names files that are there with its documents and bytes."""
    for path in output.rglob("*.parquet"):
        pq.read_table(path)
    for run in output.glob("[!l]*"):
        for marker in run.glob("work/markers/*/*.json"):
            value = json.loads(marker.read_text())
            for entry in value["files"] if isinstance(value["files"], list) else []:
                assert (run / entry["path"]).stat().st_size == entry["bytes"]
    assert list(output.glob("[!l]*/manifest.json")) == []


class _FullDisk:
    """A disk of `room` bytes under a folder: what is deleted there makes room again."""

    def __init__(self, room: int, below: Path) -> None:
        self.room, self.below = room, below

    def check(self) -> None:
        if sum(path.stat().st_size for path in self.below.rglob("*") if path.is_file()) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = builtins.open(path, mode, *args, **kwargs)  # noqa: SIM115 – handed on
        if "w" not in mode or not str(path).startswith(str(self.below)):
            return stream
        disk = self

        class Checked:
            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, data: Any) -> int:
                written = int(stream.write(data))
                stream.flush()
                disk.check()
                return written

        return Checked()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(400), 3)


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_job([folder / "*.jsonl"], tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_full_disk_names_the_file_and_the_run_goes_on_when_there_is_room(
    folder: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    needed = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    disk = _FullDisk(int(share * needed), tmp_path / "out")
    monkeypatch.setattr(io, "open", disk.open, raising=False)

    with pytest.raises(StageError) as caught:
        run_job([folder / "*.jsonl"], tmp_path / "out")

    assert [problem.code for problem in caught.value.problems] == ["cannot-write"]
    assert f"cannot write `{tmp_path}/out/" in caught.value.problems[0].message
    assert "No space left on device" in caught.value.problems[0].message
    whole_files_only(tmp_path / "out")
    assert temporaries(tmp_path / "out") == []

    monkeypatch.undo()
    run = run_job([folder / "*.jsonl"], tmp_path / "out")
    assert digests(run) == digests(reference)
    assert temporaries(tmp_path / "out") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; skips where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_is_really_full(folder: Path, reference: Path, small_disk: Path) -> None:
    with pytest.raises(StageError, match=r"cannot write `.*No space left on device"):
        run_job([folder / "*.jsonl"], small_disk / "out")
    whole_files_only(small_disk / "out")

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    run = run_job([folder / "*.jsonl"], small_disk / "out")
    assert digests(run) == digests(reference)
    assert temporaries(small_disk) == []


def test_outputs_load_with_datasets(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run = run_job([folder / "*.jsonl"], tmp_path / "out", arms=["dedup_only", TIDY])

    for arm in ("dedup_only", "tidy"):
        loaded = datasets.load_dataset(
            "parquet",
            data_files=str(run / "arms" / arm / "*.parquet"),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        assert loaded.column_names == ["doc_id", "text", "source", "url", "metadata"]
        assert list(loaded["doc_id"]) == kept_ids(run, arm)
    removed = datasets.load_dataset(
        "parquet", data_files=str(run / "removed/tidy/*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert {reason["code"] for row in removed for reason in row["reasons"]} >= {"dedup.exact_duplicate"}


def test_a_file_that_cannot_be_opened_is_not_left_out_of_a_glob_or_a_folder(tmp_path: Path) -> None:
    """A link to nothing used to be one file less, without a word."""
    write_jsonl(tmp_path / "in" / "a.jsonl", corpus(5))
    (tmp_path / "in" / "b.jsonl").symlink_to(tmp_path / "nothing.jsonl")

    for given in (tmp_path / "in" / "*.jsonl", tmp_path / "in"):
        with pytest.raises(StageError, match=r"(?s)unreadable-input.*b\.jsonl"):
            run_job([given], tmp_path / "out")
