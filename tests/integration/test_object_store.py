"""Inputs and runs on an object store: a real local server that speaks S3."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from jobs import corpus, deal, digests, plan_job, run_job

from beam_jobs import io
from beam_jobs.curate import curate
from beam_jobs.planning import check_output
from beam_jobs.progress import Progress
from curation.errors import ConfigError, StageError

boto3 = pytest.importorskip("boto3", reason="the extra `aws` is not installed: `make cloud-test` runs this")
botocore = pytest.importorskip("botocore", reason="the extra `aws` is not installed: `make cloud-test` runs this")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed: `make cloud-test` runs this")

pytestmark = pytest.mark.integration
BUCKET = "corpus"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket that the usual variables lead to."""
    variables = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").create_bucket(Bucket=BUCKET)
    bucket.objects.all().delete()
    return bucket


def put(bucket: Any, folder: Path) -> None:
    for path in folder.iterdir():
        bucket.upload_file(str(path), f"in/{path.name}")


def downloaded(bucket: Any, prefix: str, target: Path) -> Path:
    for item in bucket.objects.filter(Prefix=prefix):
        path = target / item.key.removeprefix(prefix).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(item.key, str(path))
    return target


def test_a_run_on_an_object_store_has_the_bytes_of_a_local_one_and_nothing_half_written(
    bucket: Any, tmp_path: Path
) -> None:
    folder = deal(tmp_path / "in", corpus(), 3)
    put(bucket, folder)
    local = run_job([folder / "*.jsonl"], tmp_path / "local")
    plan = plan_job([f"s3://{BUCKET}/in/*.jsonl"], cast(Path, f"s3://{BUCKET}/runs"))  # a Path would lose a slash

    run = curate(plan, progress=Progress(StringIO()))

    keys = [item.key for item in bucket.objects.filter(Prefix="runs/")]
    assert io.read_bytes(f"s3://{BUCKET}/runs/latest").decode() == plan.fingerprint
    assert [key for key in keys if io.TEMPORARY in key] == []
    found = digests(downloaded(bucket, run.removeprefix(f"s3://{BUCKET}/"), tmp_path / "remote"))
    here = digests(local)
    # An object is identified by the store's checksum, a local file by its sha256: fingerprints differ, data does not.
    for name in ("manifest.json", "report.html"):
        found.pop(name), here.pop(name)
    assert found == here


def test_a_failed_write_leaves_no_object(bucket: Any) -> None:
    def fail() -> None:
        with io.writing(f"s3://{BUCKET}/half") as stream:
            stream.write(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert list(bucket.objects.all()) == []


def test_an_empty_place_is_named_with_the_setting_that_names_it(bucket: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_job([f"s3://{BUCKET}/nothing/*.jsonl"], Path("x"))

    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == ("no-input", "job.yaml: input.0")
    assert problem.message == f"`s3://{BUCKET}/nothing/*.jsonl` matches no file"


def test_a_bucket_that_does_not_exist_matches_nothing(bucket: Any) -> None:
    """Beam lists it as an empty one."""
    with pytest.raises(ConfigError) as caught:
        plan_job(["s3://another-bucket/in/*.jsonl"], Path("x"))

    assert caught.value.problems[0].message == "`s3://another-bucket/in/*.jsonl` matches no file"


def test_missing_credentials_are_named_as_such(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises((ConfigError, StageError)) as caught:
        plan_job([f"s3://{BUCKET}/in/*.jsonl"], Path("x"))

    problem = caught.value.problems[0]
    assert problem.code == "no-credentials"
    assert problem.message == f"there are no credentials for `s3://{BUCKET}/in/*.jsonl`"


class _Refusing(BaseHTTPRequestHandler):
    """A store that knows who asks and says no, in the words of S3."""

    def answer(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 – as the base class calls them

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every request to S3 is refused."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()


def test_a_bucket_that_may_not_be_read_is_one_message_before_work_starts(refusing: None, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises((ConfigError, StageError)) as caught:
        plan_job([f"s3://{BUCKET}/in/*.jsonl"], tmp_path / "runs")

    (problem,) = caught.value.problems
    assert problem.code == "unreadable-input"
    assert f"cannot read `s3://{BUCKET}/in/*.jsonl`" in problem.message
    assert "AccessDenied" in problem.message or "403" in problem.message
    assert not (tmp_path / "runs").exists()
    assert time.monotonic() - started < 30, "a refusal is no passing fault: it is not asked again for minutes"


def test_a_bucket_that_may_not_be_written_is_one_message_before_work_starts(refusing: None, tmp_path: Path) -> None:
    folder = deal(tmp_path / "in", corpus(20), 1)
    plan = plan_job([folder / "*.jsonl"], cast(Path, f"s3://{BUCKET}/runs"))

    with pytest.raises(StageError) as caught:
        check_output(plan.run)

    (problem,) = caught.value.problems
    assert problem.code == "cannot-write"
    assert f"cannot write `s3://{BUCKET}/runs/{plan.fingerprint}/" in problem.message
    assert "AccessDenied" in problem.message or "403" in problem.message


def test_a_place_that_may_be_read_but_not_written_is_named_before_work_starts(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the usual mistakes: credentials for reading alone."""
    folder = deal(tmp_path / "in", corpus(20), 1)
    plan = plan_job([folder / "*.jsonl"], cast(Path, f"s3://{BUCKET}/runs"))
    refused = boto3.client("s3").exceptions.ClientError(
        {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}, "ResponseMetadata": {"HTTPStatusCode": 403}},
        "PutObject",
    )
    real = botocore.client.BaseClient._make_api_call

    def call(client: Any, operation: str, parameters: Any) -> Any:
        if operation in {"PutObject", "CreateMultipartUpload"}:
            raise refused
        return real(client, operation, parameters)

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", call)
    with pytest.raises(StageError) as caught:
        check_output(plan.run)

    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("cannot-write", "output")
    assert problem.message.startswith(f"cannot write `s3://{BUCKET}/runs/{plan.fingerprint}/")
    assert "AccessDenied" in problem.message
    assert [item.key for item in bucket.objects.all()] == []


def test_a_place_that_may_be_written_is_left_as_it_was(bucket: Any) -> None:
    check_output(f"s3://{BUCKET}/runs/some")

    assert [item.key for item in bucket.objects.all()] == []
