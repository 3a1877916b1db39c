"""What every portable runner can do, and nothing else, is all that the pipelines ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import primitives

from beam_jobs import line_dedup, runners
from beam_jobs.bands import IndexShard, band_edges
from beam_jobs.config import CurateJob
from beam_jobs.context import RunContext, load_arms
from beam_jobs.line_dedup import run_line_dedup
from beam_jobs.runners import RunnerSettings, assign_lanes, run_tasks
from curation.settings import parse

ALLOWED = {primitives.IMPULSE.urn, primitives.PAR_DO.urn, primitives.GROUP_BY_KEY.urn}
Proto = Any


def captured(monkeypatch: pytest.MonkeyPatch, start: Callable[[], None]) -> list[Proto]:
    """The pipelines that `start` would run, as the proto a portable runner gets."""
    protos: list[Proto] = []

    def capture(_: str, build: Callable[[Any], None], *__: object) -> None:
        pipeline = beam.Pipeline()
        build(pipeline)
        protos.append(pipeline.to_runner_api())

    monkeypatch.setattr(runners, "_run_to_end", capture)
    start()
    return protos


ON_A_CLUSTER = RunnerSettings(2, ("--runner=SparkRunner",))
# Dataflow refuses a job request above 10 MB.
MOST_BYTES = 10_000_000


def job_of_tasks(monkeypatch: pytest.MonkeyPatch, run: Path, files: int = 3) -> list[Proto]:
    tasks = [{"shard": i, "weight": 1} for i in range(files)]
    return captured(monkeypatch, lambda: run_tasks("p", str(run), tasks, "module:function", {}, ON_A_CLUSTER, True))


def context_of(run: Path, arm: str) -> RunContext:
    job = parse(CurateJob, {"kind": "curate", "input": ["x"], "output": "o", "arms": [arm]}, "job", "this job")
    return RunContext(str(run), job, load_arms(job))


def job_of_bands(monkeypatch: pytest.MonkeyPatch, run: Path, files: int = 3) -> list[Proto]:
    shards = [IndexShard(i, f"index-{i}", f"documents-{i}", 1000, False) for i in range(files)]
    return captured(monkeypatch, lambda: band_edges(context_of(run, "dedup_only"), shards, ON_A_CLUSTER))


def job_of_bands_on_one_machine(monkeypatch: pytest.MonkeyPatch, run: Path, files: int = 3) -> list[Proto]:
    shards = [IndexShard(i, f"index-{i}", f"documents-{i}", 1000, False) for i in range(files)]
    return captured(monkeypatch, lambda: band_edges(context_of(run, "dedup_only"), shards, RunnerSettings(2)))


def job_of_lines(monkeypatch: pytest.MonkeyPatch, run: Path, files: int = 3) -> list[Proto]:
    class Enough(Exception):  # noqa: N818 – not an error: what follows reads what the pipeline would have written
        pass

    def stop(*_: object) -> None:
        raise Enough

    def start() -> None:
        with pytest.raises(Enough):
            run_line_dedup(context_of(run, "line_dedup"), dict.fromkeys(range(files), 10), ON_A_CLUSTER)

    monkeypatch.setattr(line_dedup, "run_tasks", stop)
    return captured(monkeypatch, start)


JOBS = [job_of_tasks, job_of_bands, job_of_bands_on_one_machine, job_of_lines]


@pytest.mark.parametrize("make", JOBS)
def test_a_pipeline_has_no_source_side_input_state_timer_or_splittable_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[pytest.MonkeyPatch, Path], list[Proto]]
) -> None:
    protos = make(monkeypatch, tmp_path)

    assert protos
    for proto in protos:
        assert len(proto.components.transforms) >= 4
        for transform in proto.components.transforms.values():
            if transform.subtransforms:
                continue
            assert transform.spec.urn in ALLOWED, transform.unique_name
            if transform.spec.urn != primitives.PAR_DO.urn:
                continue
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.side_inputs, transform.unique_name
            assert not payload.state_specs, transform.unique_name
            assert not payload.timer_family_specs, transform.unique_name
            assert not payload.restriction_coder_id, transform.unique_name
            assert not payload.requires_stable_input, transform.unique_name
            assert not payload.requires_time_sorted_input, transform.unique_name


@pytest.mark.parametrize("make", JOBS)
def test_every_pipeline_is_a_batch_over_the_global_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[pytest.MonkeyPatch, Path], list[Proto]]
) -> None:
    for proto in make(monkeypatch, tmp_path):
        bounded = {p.is_bounded for p in proto.components.pcollections.values()}
        windows = {w.window_fn.urn for w in proto.components.windowing_strategies.values()}

        assert bounded == {beam_runner_api_pb2.IsBounded.BOUNDED}
        assert windows == {common_urns.global_windows.urn}


@pytest.mark.parametrize("make", JOBS)
def test_nothing_that_is_shuffled_needs_python_to_be_decoded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[pytest.MonkeyPatch, Path], list[Proto]]
) -> None:
    """Keys and values of every GroupByKey have standard coders: small integers, and bytes that we packed."""
    for proto in make(monkeypatch, tmp_path):
        parts = proto.components
        for transform in parts.transforms.values():
            if transform.spec.urn != primitives.GROUP_BY_KEY.urn:
                continue
            (collection,) = transform.inputs.values()
            coder = parts.coders[parts.pcollections[collection].coder_id]
            assert coder.spec.urn == common_urns.coders.KV.urn
            key, value = (parts.coders[i].spec.urn for i in coder.component_coder_ids)
            assert (key, value) == (common_urns.coders.VARINT.urn, common_urns.coders.BYTES.urn), transform.unique_name


@pytest.mark.parametrize("make", JOBS)
def test_the_job_graph_of_a_hundred_thousand_files_is_that_of_ten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., list[Proto]]
) -> None:
    few, many = make(monkeypatch, tmp_path, 10), make(monkeypatch, tmp_path, 100_000)

    # More rows may need more partitions or, on one machine, more ranges of hashes: those are tasks, not pipelines.
    assert len(few) == len(many) == 1
    assert abs(many[0].ByteSize() - few[0].ByteSize()) < 100
    assert many[0].ByteSize() < MOST_BYTES / 1000


def test_a_list_of_a_hundred_thousand_tasks_is_dealt_out_in_seconds() -> None:
    """One lane a task, as on a cluster: each step used to look at every lane, which took a quarter of an hour."""
    started = time.process_time()
    lanes = assign_lanes([1 + i % 7 for i in range(100_000)], 100_000)

    assert sorted(lanes) == list(range(100_000))
    assert time.process_time() - started < 5
