"""The same command on a real Spark standalone cluster, one master and two workers, writes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import command, curated, kill_a_worker_process, markers, wait_for
from jobs import corpus, deal, digests

from beam_jobs.deploy import parts
from beam_jobs.deploy.clusters import SparkCluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.cluster,
    pytest.mark.skipif(parts.SPARK.missing() is not None, reason=f"no local Spark: {parts.SPARK.missing()}"),
]
ARMS = ["raw", "dedup_only", "curated", "sampled"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    with SparkCluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(400), 4) / "*.jsonl"


@pytest.fixture(scope="module")
def expected(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Beam's own local runner writes."""
    return digests(curated(command(inputs, tmp_path_factory.mktemp("local"), ARMS)))


def test_worker_processes_on_the_nodes_write_the_bytes_of_one_machine(
    cluster: SparkCluster, inputs: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    assert digests(curated(command(inputs, tmp_path, ARMS, *cluster.options))) == expected


def test_workers_inside_the_driver_write_them_too(
    cluster: SparkCluster, inputs: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    start = command(inputs, tmp_path, ARMS, *cluster.options, "--environment_type=LOOPBACK")

    assert digests(curated(start)) == expected


def test_a_killed_python_worker_and_then_a_lost_node_leave_no_trace(
    cluster: SparkCluster, inputs: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """Last in this file: the cluster is one node smaller afterwards."""

    def disturb() -> None:
        kill_a_worker_process(cluster)
        wait_for(lambda: markers(tmp_path) >= 1)
        cluster.kill("worker-1")

    assert digests(curated(command(inputs, tmp_path, ARMS, *cluster.options), disturb)) == expected
