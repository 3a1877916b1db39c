"""What every portable runner can do, and nothing else, is all that the pipelines ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import primitives

from beam_jobs import runners
from beam_jobs.config import CurateJob
from beam_jobs.context import RunContext, load_arms
from beam_jobs.dedup import IndexShard, band_edges
from beam_jobs.runners import RunnerSettings, run_tasks
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


def job_of_tasks(monkeypatch: pytest.MonkeyPatch, run: Path) -> list[Proto]:
    tasks = [{"shard": i, "weight": 1} for i in range(3)]
    settings = RunnerSettings(2)
    return captured(monkeypatch, lambda: run_tasks("p", str(run), tasks, "module:function", {}, settings, True))


def job_of_bands(monkeypatch: pytest.MonkeyPatch, run: Path) -> list[Proto]:
    job = parse(CurateJob, {"kind": "curate", "input": ["x"], "output": "o", "arms": ["dedup_only"]}, "job", "this job")
    context = RunContext(str(run), job, load_arms(job))
    shards = [IndexShard(i, f"index-{i}", f"documents-{i}", 1000, False) for i in range(3)]
    return captured(monkeypatch, lambda: band_edges(context, shards, RunnerSettings(2)))


@pytest.mark.parametrize("make", [job_of_tasks, job_of_bands])
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


@pytest.mark.parametrize("make", [job_of_tasks, job_of_bands])
def test_every_pipeline_is_a_batch_over_the_global_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[pytest.MonkeyPatch, Path], list[Proto]]
) -> None:
    for proto in make(monkeypatch, tmp_path):
        bounded = {p.is_bounded for p in proto.components.pcollections.values()}
        windows = {w.window_fn.urn for w in proto.components.windowing_strategies.values()}

        assert bounded == {beam_runner_api_pb2.IsBounded.BOUNDED}
        assert windows == {common_urns.global_windows.urn}


@pytest.mark.parametrize("make", [job_of_tasks, job_of_bands])
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


def test_the_size_of_the_job_graph_does_not_grow_with_the_number_of_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes = []
    for count in (10, 10_000):
        tasks = [{"shard": i, "weight": 1} for i in range(count)]
        (proto,) = captured(
            monkeypatch,
            lambda tasks=tasks: run_tasks("p", str(tmp_path), tasks, "module:function", {}, RunnerSettings(2), True),
        )
        sizes.append(proto.ByteSize())

    assert abs(sizes[1] - sizes[0]) < 100
