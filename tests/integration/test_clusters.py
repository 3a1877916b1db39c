"""The same command on real clusters of two nodes, Spark's and Flink's: the bytes of one machine, whatever dies."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import (
    RUN_TIMEOUT_S,
    command,
    curated,
    kill_a_worker_process,
    killed_when,
    markers,
    wait_for,
    worker_processes,
)
from jobs import corpus, deal, digests

from beam_jobs.deploy.clusters import CLUSTERS, FlinkCluster, SparkCluster, free_port
from beam_jobs.deploy.parts import ENGINES
from beam_jobs.job_server import job_server
from curation.errors import ConfigError

Cluster = SparkCluster | FlinkCluster
pytestmark = [pytest.mark.integration, pytest.mark.cluster]
KNOWN_ARMS = ["raw", "dedup_only", "curated", "sampled"]
KNOWN_SPLIT_MB = 6  # seven shards
FEW_ARMS = ["raw", "dedup_only"]


@pytest.fixture(scope="module", params=sorted(CLUSTERS, reverse=True))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    engine: str = request.param
    missing = ENGINES[engine].missing()
    if missing is not None:
        pytest.skip(f"no local {engine}: {missing}")
    with CLUSTERS[engine](tmp_path_factory.mktemp(engine)) as running:
        yield running


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(800), 16) / "*.jsonl"


@pytest.fixture(scope="module")
def few_arms_on_one_machine(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(curated(command(inputs, tmp_path_factory.mktemp("here"), FEW_ARMS)))


@pytest.fixture(scope="module")
def known(data: Path) -> Path:
    path = data / "known_truth" / "docs.jsonl.zst"
    if not path.is_file():
        pytest.skip("the ground-truth corpus is not in the data folder")
    return path


@pytest.fixture(scope="module")
def known_on_one_machine(known: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Beam's own local runner writes, with one worker and with two."""
    one, two = (
        digests(
            curated(
                command(known, tmp_path_factory.mktemp("known"), KNOWN_ARMS, workers=workers, split_mb=KNOWN_SPLIT_MB)
            )
        )
        for workers in (1, 2)
    )
    assert one == two
    return one


def refused(cluster: Cluster, *more: str, options: list[str] | None = None) -> list[str]:
    """The codes of the error at the start of a run on the cluster with options that are wrong."""
    with pytest.raises(ConfigError) as error, job_server((*(options or cluster.options), *more)):
        pass
    return [problem.code for problem in error.value.problems]


def places(cluster: Cluster) -> dict[str, str]:
    """An address where nothing listens, and one of the cluster's that is easily taken for the right one."""
    other = cluster.page if isinstance(cluster, SparkCluster) else cluster.rpc
    return {"closed": f"127.0.0.1:{free_port()}", "other": other}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--runner=SparkRunner", "--spark_master_url=local[2]"), id="spark"),
        pytest.param(("--runner=FlinkRunner", "--flink_version=1.19"), id="flink"),
    ],
)
def test_an_engine_inside_its_job_server_with_workers_in_the_driver_writes_the_bytes_of_one_machine(
    options: tuple[str, ...], inputs: Path, few_arms_on_one_machine: dict[str, str], tmp_path: Path
) -> None:
    engine = ENGINES[options[0].removeprefix("--runner=").removesuffix("Runner").lower()]
    if engine.missing() is not None:
        pytest.skip(f"no {engine.name}: {engine.missing()}")

    assert digests(curated(command(inputs, tmp_path, FEW_ARMS, *options, *engine.options))) == few_arms_on_one_machine


# In every test the cluster is asked for first: where there is none, nothing else is made.


def test_known_truth_in_every_arm_has_the_bytes_of_one_machine(
    cluster: Cluster, known: Path, known_on_one_machine: dict[str, str], tmp_path: Path
) -> None:
    start = command(known, tmp_path, KNOWN_ARMS, *cluster.options, split_mb=KNOWN_SPLIT_MB)

    found = digests(curated(start))

    assert found == known_on_one_machine
    folders = {name.rsplit("/", 1)[0] for name in found}
    assert {f"arms/{arm}" for arm in KNOWN_ARMS} | {"duplicates", "decisions"} <= folders
    assert len([name for name in found if name.startswith("arms/curated/")]) > 2


@pytest.mark.parametrize(
    ("wrong", "on_spark", "on_flink"),
    [
        (["--spark_master_url=spark://{closed}", "--flink_master={closed}"], "no-master", "no-master"),
        (["--spark_master_url=spark://{other}", "--flink_master={other}"], "no-master", "no-master"),
        # A Spark master tells its version to nobody but another Spark.
        (["--spark_master_url=http://{other}", "--flink_version=1.20"], "bad-master", "other-cluster-version"),
        (["--job_server_java_launcher=/nowhere/java"], "no-java", "no-java"),
        (["--environment_type=PROCESS", '--environment_config={{"command": "/bin/true"}}'], "no-worker", "no-worker"),
        (["--output_executable_path={folder}/run.jar"], "one-jar", "one-jar"),
    ],
)
def test_what_is_wrong_is_said_before_a_job_server_is_started(
    cluster: Cluster, wrong: list[str], on_spark: str, on_flink: str, tmp_path: Path
) -> None:
    said = refused(cluster, *(option.format(folder=tmp_path, **places(cluster)) for option in wrong))

    assert said == [on_spark if cluster.name == "spark" else on_flink]


def test_a_job_server_of_another_version_is_refused_unless_it_is_allowed(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other.jar"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("org/apache/beam/sdk/sdk.properties", "version=2.10.0\n")
    options = [option for option in cluster.options if not option.startswith("--experiments=")]

    assert refused(cluster, f"--{cluster.name}_job_server_jar={other}", options=options) == ["other-job-server"]


def test_a_node_whose_worker_command_lacks_the_package_is_one_error_that_says_so(
    cluster: Cluster, inputs: Path, tmp_path: Path
) -> None:
    """Only the nodes can know: here it passes the check beforehand, there it ends as soon as it starts."""
    worker = tmp_path / "worker"
    worker.write_text(
        f'#!/bin/sh\n[ "$1" = --help ] && echo provision_endpoint && exit\nexec {sys.executable} -m no_such_package\n'
    )
    worker.chmod(0o755)
    start = command(inputs, tmp_path, ["raw"], *cluster.options, "--environment_type=PROCESS")

    done = subprocess.run(
        [*start, f"--environment_config={json.dumps({'command': str(worker)})}"],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )

    assert done.returncode == 4, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error[")]
    assert len(errors) == 1
    assert errors[0].startswith("error[worker-died]: worker processes on a node end as soon as they start (")
    assert "Traceback" not in done.stderr


def test_a_killed_driver_a_killed_worker_and_a_lost_node_leave_no_trace(
    cluster: Cluster, inputs: Path, few_arms_on_one_machine: dict[str, str], tmp_path: Path
) -> None:
    """Last in this file: the cluster is one node smaller afterwards."""
    start = command(inputs, tmp_path, FEW_ARMS, *cluster.options)
    killed_when(start, lambda: bool(markers(tmp_path)))
    wait_for(lambda: not worker_processes(cluster))
    finished = markers(tmp_path)

    def disturb() -> None:
        kill_a_worker_process(cluster)
        wait_for(lambda: len(markers(tmp_path)) > len(finished))
        cluster.kill(cluster.nodes[0])

    assert digests(curated(start, disturb)) == few_arms_on_one_machine
    assert finished.items() <= markers(tmp_path).items()
