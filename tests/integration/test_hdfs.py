"""Inputs and runs on HDFS: a real name node and data node in one Java process, asked through WebHDFS."""

from __future__ import annotations

import importlib.util
import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clusters import command, curated
from jobs import corpus, deal, digests

from beam_jobs import io, remote
from beam_jobs.deploy.clusters import HOST, SHORT_LIVED, LocalCluster, free_port
from beam_jobs.deploy.parts import HDFS_JAR, SPARK
from curation.errors import StageError

pytestmark = [pytest.mark.integration, pytest.mark.cluster]
ARMS = ["raw", "dedup_only"]


class HdfsCluster(LocalCluster):
    """Hadoop's own small cluster: the servers of HDFS, one of each, in one process."""

    name = "hdfs"
    page = ""

    def _start(self) -> None:
        self.page = f"{HOST}:{free_port()}"
        jars = (
            *("hadoop-client-api", "hadoop-client-runtime", "commons-logging", "slf4j-api", "log4j", "activation"),
            "jakarta.xml.bind-api",  # what Java took out after version 8
        )
        found = [str(path) for jar in jars for path in sorted((SPARK.home / "jars").glob(f"{jar}-*.jar"))]
        properties = [f"-Dtest.build.data={self.folder}", "--add-opens=java.base/java.lang=ALL-UNNAMED"]
        java = ["java", "-Xmx400m", *SHORT_LIVED, *properties, "-cp", os.pathsep.join([str(HDFS_JAR), *found])]
        ports = ["-nnport", str(free_port()), "-nnhttpport", self.page.rsplit(":", 1)[1]]
        data = ["-D", f"hdfs.minidfs.basedir={self.folder / 'data'}"]
        self._run(
            "hdfs", [*java, "org.apache.hadoop.mapreduce.MiniHadoopClusterManager", "-nomr", "-format", *ports, *data]
        )
        self._wait(self._writable, "HDFS")

    def _writable(self) -> bool:
        url = f"http://{self.page}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        with suppress(OSError, ValueError, LookupError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(json.load(answer)["beans"][0]["NumLiveDataNodes"] == 1)
        return False

    @property
    def options(self) -> list[str]:
        """Beam options that lead to it."""
        host, port = self.page.rsplit(":", 1)
        return [f"--hdfs_host={host}", f"--hdfs_port={port}", "--hdfs_user=tester"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsCluster]:
    if importlib.util.find_spec("hdfs") is None:
        pytest.skip("the extra `hdfs` is not installed: `make cloud-test` runs this")
    missing = SPARK.missing() or (None if HDFS_JAR.is_file() else f"{HDFS_JAR.name} is not at hand")
    if missing is not None:
        pytest.skip(f"no local HDFS: {missing}; `make hdfs-parts` gets all")
    with HdfsCluster(tmp_path_factory.mktemp("hdfs")) as running:
        yield running


@pytest.fixture
def client(cluster: HdfsCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    """HDFS with nothing in it, and Beam's options set so that this process finds it."""
    import hdfs

    monkeypatch.setenv("PIPELINE_OPTIONS", "{}")
    remote.use_options(cluster.options)
    found = hdfs.InsecureClient(f"http://{cluster.page}", user=os.environ.get("USER", "root"))
    for name in found.list("/"):
        found.delete(f"/{name}", recursive=True)
    found.set_permission("/", "777")
    return found


def test_a_run_on_hdfs_with_two_worker_processes_has_the_bytes_of_a_local_one(
    cluster: HdfsCluster, client: Any, tmp_path: Path
) -> None:
    folder = deal(tmp_path / "in", corpus(), 3)
    for number, path in enumerate(sorted(folder.iterdir())):
        client.upload(f"/corpus/{number % 2}/{path.name}", str(path))
    local = curated(command(folder / "*.jsonl", tmp_path / "local", ARMS))
    start = command(Path("IN"), tmp_path / "job", ARMS, *cluster.options, workers=2)
    job = tmp_path / "job" / "job.yaml"
    written = job.read_text("utf-8").replace('"IN"', '"hdfs://corpus"')
    job.write_text(written.replace(f"output: {tmp_path / 'job'}", "output: hdfs://runs"), "utf-8")

    run = str(curated(start)).removeprefix("hdfs:")  # a Path has lost a slash

    names = [f"{folder}/{name}" for folder, _, names in client.walk("/runs") for name in names]
    assert [name for name in names if remote.TEMPORARY in name] == []
    assert io.read_bytes("hdfs://runs/latest").decode() == run.rsplit("/", 1)[1]
    client.download(run, str(tmp_path / "remote"))
    found, here = digests(tmp_path / "remote"), digests(local)
    # A file there is identified by the checksum of HDFS, a local one by its sha256: fingerprints differ, data does not.
    for name in ("manifest.json", "report.html"):
        found.pop(name), here.pop(name)
    assert found == here


def test_a_file_is_replaced_in_one_step_and_an_empty_one_is_a_file(client: Any) -> None:
    for content in (b"first", b"", b"third" * 1_000_000):
        io.write_bytes("hdfs://a/b/file", content)
        assert io.read_bytes("hdfs://a/b/file") == content
    assert client.list("/a/b") == ["file"]


def test_a_failed_write_leaves_the_file_before_it_and_nothing_else(client: Any) -> None:
    io.write_bytes("hdfs://a/file", b"whole")

    def fail() -> None:
        with io.writing("hdfs://a/file") as stream:
            stream.write(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    client.set_permission("/a", "555")
    with pytest.raises(StageError) as caught:
        io.write_bytes("hdfs://a/file", b"refused")

    assert (caught.value.problems[0].code, client.list("/a")) == ("cannot-write", ["file"])
    assert io.read_bytes("hdfs://a/file") == b"whole"


def test_what_a_killed_writer_left_is_found_and_removed(client: Any) -> None:
    for name in ("one", f"deep/er/two{remote.TEMPORARY}host-7", f"three{remote.TEMPORARY}host-8"):
        client.write(f"/run/{name}", data=b"x")

    assert io.remove_temporaries("hdfs://run") == 2
    assert io.match("hdfs://run/**") == ["hdfs://run/one"]


def test_globs_reach_folders_below_and_a_folder_that_is_not_there_matches_nothing(client: Any) -> None:
    for name in ("a/manifest.json", "b/manifest.json", "b/c/manifest.json"):
        client.write(f"/runs/{name}", data=b"{}")

    assert io.match("hdfs://runs/*/manifest.json") == ["hdfs://runs/a/manifest.json", "hdfs://runs/b/manifest.json"]
    assert len(io.match("hdfs://runs/**")) == 3
    assert io.match("hdfs://runs/a/manifest.json/*") == io.match("hdfs://none/*") == io.match("hdfs://runs/b") == []
    assert not io.exists("hdfs://none")


def test_without_its_options_hdfs_is_refused_with_their_names(client: Any) -> None:
    remote.use_options(["--hdfs_host=127.0.0.1"])

    with pytest.raises(StageError) as caught:
        io.match("hdfs://corpus/*")

    problem = caught.value.problems[0]
    assert problem.code == "missing-option"
    assert problem.message == "nothing says where HDFS is: --hdfs_port, --hdfs_user missing for `hdfs://corpus/*`"


def test_a_name_node_that_does_not_answer_is_named(client: Any) -> None:
    port = free_port()
    remote.use_options([f"--hdfs_host={HOST}", f"--hdfs_port={port}", "--hdfs_user=tester"])

    with pytest.raises(StageError) as caught:
        io.match("hdfs://corpus/*")

    problem = caught.value.problems[0]
    assert problem.code == "unreadable-input"
    assert str(port) in problem.message
