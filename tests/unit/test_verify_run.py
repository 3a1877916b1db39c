"""`verify`: a whole run passes, and every way to damage one is named with the file and what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import Builder, build_run

from curation.cli import main
from curation.finished_run import load_run
from curation.verify_run import verify


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build_run(tmp_path)


def problems(run: Path) -> list[tuple[str, str]]:
    """(code, file below the run) of everything found."""
    found = verify(load_run(str(run))).problems
    return [(p.code, str(p.where).removeprefix(f"{run}/")) for p in found]


def edit_manifest(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def rewrite(run: Path, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a shard's rows and make the manifest agree with its new bytes: only its meaning is wrong now."""
    groups = [
        pq.ParquetFile(run / path).metadata.row_group(g).num_rows
        for g in range(pq.read_metadata(run / path).num_row_groups)
    ]
    table = change(pq.read_table(run / path))
    entry = Builder(run).parquet(path, table, groups if sum(groups) == table.num_rows else None)

    def replace(manifest: dict[str, Any]) -> None:
        lists = [
            manifest["files"],
            *(arm[key] for arm in manifest["arms"].values() for key in ("shards", "removed_shards")),
        ]
        for entries in lists:
            entries[:] = [entry if old["path"] == path else old for old in entries]

    edit_manifest(run, replace)


def test_a_whole_run_has_no_problem_and_says_what_was_checked(run: Path) -> None:
    found = verify(load_run(str(run)))

    assert found.problems == []
    assert (found.files, found.documents, found.shards_checked, found.duplicates) == (22, 8, 2, 2)
    assert found.inputs_same == [str(run.parent / "input.jsonl")]


def test_the_verb_prints_a_summary_and_exits_0(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{run} is what its manifest says"


def test_the_verb_with_json_prints_one_object_and_exits_3_on_a_problem(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "arms/raw/part-00001.parquet").unlink()

    assert main(["verify", str(run), "--json"]) == 3
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["ok"] is False
    assert [p["code"] for p in report["problems"]] == ["missing-file"]
    assert "error[missing-file]" in printed.err


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_in_any_shard_is_found(run: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(load_run(str(run)).listed)))
    content = bytearray((run / path).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    original = (run / path).read_bytes()
    (run / path).write_bytes(content)
    try:
        assert ("other-hash", path) in problems(run)
    finally:
        (run / path).write_bytes(original)


def test_a_shorter_file_names_both_sizes(run: Path) -> None:
    path = run / "documents/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-10])

    assert problems(run)[:2] == [
        ("other-size", "documents/part-00000.parquet"),
        ("other-hash", "documents/part-00000.parquet"),
    ]
    assert verify(load_run(str(run))).shards_skipped == [0]


def test_all_problems_are_listed_at_once(run: Path) -> None:
    (run / "signals/part-00000.parquet").unlink()
    (run / "arms/raw/part-00000.parquet.tmp-123").write_bytes(b"half")
    (run / "notes.txt").write_text("mine")

    assert problems(run) == [
        ("missing-file", "signals/part-00000.parquet"),
        ("half-written", "arms/raw/part-00000.parquet.tmp-123"),
        ("unlisted-file", "notes.txt"),
    ]


def test_an_arm_that_lost_a_row_is_found_though_its_hash_agrees(run: Path) -> None:
    rewrite(run, "arms/raw/part-00001.parquet", lambda table: table.slice(1))

    assert ("other-rows", "arms/raw/part-00001.parquet") in problems(run)


def test_removed_documents_with_other_reasons_are_found(run: Path) -> None:
    def without_reasons(table: pa.Table) -> pa.Table:
        empty = pa.array([[] for _ in range(table.num_rows)], table.schema.field("reasons").type)
        return table.set_column(table.schema.get_field_index("reasons"), table.schema.field("reasons"), empty)

    rewrite(run, "removed/curated/part-00000.parquet", without_reasons)

    assert problems(run) == [("other-rows", "removed/curated/part-00000.parquet")]


def test_a_manifest_with_another_count_is_found_per_arm_and_per_reason(run: Path) -> None:
    def inflate(manifest: dict[str, Any]) -> None:
        manifest["arms"]["curated"]["removed_by"]["context.use"] = 5
        manifest["arms"]["blocklist"]["bytes"] += 1

    edit_manifest(run, inflate)
    found = verify(load_run(str(run))).problems

    assert [(p.message, p.expected) for p in found] == [
        ("arm `blocklist`: bytes 309 in the manifest", "308, as decisions/ and texts say"),
        ("arm `curated`: reason `context.use` 5 in the manifest", "1, as decisions/ says"),
    ]


def test_a_conservation_line_that_does_not_add_up_is_found(run: Path) -> None:
    edit_manifest(run, lambda manifest: manifest["conservation"]["raw"].update(read=10))

    assert problems(run) == [("not-conserved", "manifest.json")]


def test_a_lost_dead_letter_is_found(run: Path) -> None:
    (run / "dead_letter/part-00000.jsonl").write_text("")

    assert ("other-count", "dead_letter") in problems(run)


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("duplicate_of", "nobody", "no-original"),
        ("duplicate_of", "copy", "removed-original"),
        ("jaccard", 0.3, "low-jaccard"),
        ("row", 0, "other-rows"),
    ],
)
def test_a_duplicate_that_names_no_kept_document_is_found(run: Path, column: str, value: object, code: str) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        changed = pc.if_else(
            pc.equal(table["kind"], "near"), pa.scalar(value, table.schema.field(column).type), table[column]
        )
        return table.set_column(at, table.schema.field(column), changed)

    rewrite(run, "duplicates/part-00000.parquet", change)

    assert [found for found, _ in problems(run)] == [code]


def test_an_input_that_changed_is_a_problem_and_one_that_is_gone_is_named(run: Path) -> None:
    source = run.parent / "input.jsonl"
    source.write_text("{}")
    assert problems(run) == [("other-input", str(source))]

    source.unlink()
    found = verify(load_run(str(run)))
    assert (found.problems, found.inputs_gone) == ([], [str(source)])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "error[no-run]" in capsys.readouterr().err


def test_a_manifest_that_is_not_json_breaks_the_contract(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "manifest.json").write_text("{")

    assert main(["verify", str(run)]) == 3
    assert "error[bad-manifest]" in capsys.readouterr().err


def test_a_folder_with_latest_stands_for_that_run(run: Path) -> None:
    (run.parent / "latest").symlink_to(run.name)

    assert main(["verify", str(run.parent)]) == 0
