"""What an input expands to, local and remote, and what becomes of texts of which normalising leaves nothing."""

from __future__ import annotations

import fnmatch
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.io.filesystem import BeamIOError

from beam_jobs import io, layout, remote
from beam_jobs.config import CurateJob
from beam_jobs.context import save_job
from beam_jobs.measure import measure_shard, plan_tasks
from beam_jobs.planning import make_plan
from curation.errors import ConfigError, Problem, StageError
from curation.settings import parse

OBJECTS = (
    "gs://b/crawl/",
    "gs://b/crawl/_SUCCESS",
    "gs://b/crawl/a.jsonl.gz",
    "gs://b/crawl/.staging/b.jsonl",
    "gs://b/crawl/deep/c.parquet",
    "gs://b/crawl/deep/dataset_info.json",
    "gs://b/one.jsonl",
    "gs://b/odd",
)


class Store:
    """The match of an object store, which has no folders, or of HDFS, which has."""

    def __init__(self, has_folders: bool) -> None:
        self.has_folders = has_folders

    def match(self, patterns: list[str]) -> list[Any]:
        (pattern,) = patterns
        if self.has_folders and pattern.endswith("/**") and pattern.removesuffix("/**") in OBJECTS:
            raise BeamIOError("not a folder")
        found = [uri for uri in OBJECTS if fnmatch.fnmatchcase(uri, pattern)]
        if self.has_folders and not found and any(uri.startswith(f"{pattern}/") for uri in OBJECTS):
            found = [pattern]
        return [SimpleNamespace(metadata_list=[SimpleNamespace(path=uri) for uri in found])]


@pytest.mark.parametrize("has_folders", [False, True])
def test_a_remote_folder_is_its_data_files(monkeypatch: pytest.MonkeyPatch, has_folders: bool) -> None:
    monkeypatch.setattr(remote, "filesystems", lambda _: Store(has_folders))
    files = ["gs://b/crawl/a.jsonl.gz", "gs://b/crawl/deep/c.parquet"]
    assert io.input_files("gs://b/crawl") == files
    assert io.input_files("gs://b/crawl/") == files
    assert io.input_files("gs://b/one.jsonl") == ["gs://b/one.jsonl"]
    assert io.input_files("gs://b/o*") == ["gs://b/odd", "gs://b/one.jsonl"]
    for nothing in ("gs://b/none", "gs://b/*.zip"):
        with pytest.raises(StageError, match="no file to read"):
            io.input_files(nothing)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BeamIOError("Match failed: 403 Forbidden"), "unreadable-input", "cannot read `s3://b/x`: Match failed: 403"),
        (BeamIOError("NoCredentialsError: none"), "no-credentials", "there are no credentials for `s3://b/x`"),
        (ValueError("Unable to get filesystem"), "no-filesystem", "nothing here opens `s3://b/x`"),
    ],
)
def test_a_store_that_cannot_be_asked_is_no_empty_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, code: str, message: str
) -> None:
    class Closed:
        def match(self, _: list[str]) -> list[Any]:
            raise error

    monkeypatch.setattr(remote, "filesystems", lambda _: Closed())
    with pytest.raises(ConfigError) as caught:
        make_plan(job(tmp_path, "s3://b/x"), "job.yaml")

    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == (code, "job.yaml: input.0")
    assert problem.message.startswith(message)


def job(root: Path, *paths: str, **given: Any) -> CurateJob:
    data = {"kind": "curate", "input": list(paths), "output": f"{root}/runs", "arms": ["raw"], **given}
    return parse(CurateJob, data, "job.yaml", "this job")


def test_a_local_folder_is_its_data_files_and_one_without_is_a_problem(tmp_path: Path) -> None:
    for name in ("in/b.jsonl", "in/deep/a.jsonl.gz", "in/.hidden/c.jsonl", "in/notes.md", "other/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'{"text": "x"}\n')
    plan = make_plan(job(tmp_path, f"{tmp_path}/in"), "job.yaml")
    assert [item["uri"] for item in plan.inputs] == [f"{tmp_path}/in/deep/a.jsonl.gz", f"{tmp_path}/in/b.jsonl"]
    with pytest.raises(ConfigError) as found:
        make_plan(job(tmp_path, f"{tmp_path}/other", f"{tmp_path}/in", f"{tmp_path}/none"), "job.yaml")
    hint = "of a folder only files count whose suffix names a format; name others with a glob and say their `format`"
    assert found.value.problems == tuple(
        Problem(
            "no-input",
            f"`{tmp_path}/{name}` matches no file",
            f"job.yaml: input.{index}",
            "a file, a glob or a folder with data files",
            hint,
        )
        for index, name in ((0, "other"), (2, "none"))
    )


def test_a_text_emptied_by_normalising_is_a_dead_letter_at_its_place(tmp_path: Path) -> None:
    lines = [
        b'{"id": "a", "text": "good"}\n',
        b'{"id": "b", "text": "\\u200b\\u0007"}\n',
        b'{"id": "c", "text": "fine"}\n',
    ]
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    plan = make_plan(job(tmp_path, str(path)), "job.yaml")
    save_job(plan.run, plan.job, plan.arms)
    (task,) = plan_tasks(plan.run, plan.splits, plan.settings)
    measure_shard(task, {})
    dead = [json.loads(line) for line in Path(io.join(plan.run, layout.dead_letter(0))).read_bytes().splitlines()]
    assert dead == [
        {
            "input": str(path),
            "offset": len(lines[0]),
            "error": "empty-text: nothing is left after normalising",
            "raw": "doc_id b",
        }
    ]
    assert task["weight"] == sum(map(len, lines))
