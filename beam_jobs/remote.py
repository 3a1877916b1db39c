"""Beam's filesystems (s3://, gs://, hdfs://), outside of pipelines too, and why one cannot be asked."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Sequence
from typing import IO, Any

from beam_jobs import hadoop
from curation.errors import Problem, StageError

TEMPORARY = ".tmp-"  # what every unfinished file has in its name; `io.remove_temporaries` looks for it
# Held while Beam is imported: two threads that import it at once each see half of it.
IMPORTING = threading.RLock()


def filesystems(uri: str = "") -> Any:
    """Beam's class of that name, ready to be used on `uri`. Raises StageError where nobody says who asks."""
    with IMPORTING:
        from apache_beam.io.filesystems import FileSystems

    if FileSystems._pipeline_options is None:  # set inside a pipeline only; the client of S3 refuses to be made without
        use_options([])
    if uri.startswith("s3://") and not _has_aws_credentials(FileSystems._pipeline_options):
        raise unreachable(uri, OSError("Credentials not found"))
    if uri.startswith(hadoop.SCHEME):
        hadoop.check(FileSystems._pipeline_options, uri)
    return FileSystems


def match(pattern: str) -> list[str]:
    """Files that match a path or glob. Raises StageError where the store cannot be asked."""
    try:
        if pattern.startswith(hadoop.SCHEME):
            return hadoop.match(filesystems(pattern).get_filesystem(pattern), pattern)
        return [found.path for found in filesystems(pattern).match([pattern])[0].metadata_list]
    except (OSError, ValueError, AssertionError) as error:
        raise unreachable(pattern, error) from error


def remove_temporaries(run: str) -> int:
    """Delete what killed writers left below a run; only HDFS shows such files. Returns how many."""
    left = match(f"{run}/**{TEMPORARY}*") if run.startswith(hadoop.SCHEME) else []
    if left:
        filesystems(run).delete(left)
    return len(left)


def _has_aws_credentials(options: Any) -> bool:
    """Asked beforehand: Beam takes their absence for a passing fault and tries again for minutes."""
    from apache_beam.options.pipeline_options import S3Options

    try:
        from boto3.session import Session
    except ImportError:
        return True  # the absence of the client is reported where it is used
    return options.view_as(S3Options).s3_access_key_id is not None or Session().get_credentials() is not None


def use_options(given: Sequence[str]) -> None:
    """Open remote files as these Beam options say (`--s3_endpoint_url`, ...), here and in local worker processes."""
    with IMPORTING:
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(list(given))
    FileSystems.set_options(options)
    # Beam's local runner hands its workers none; `sdk_worker_main` reads them from there.
    os.environ["PIPELINE_OPTIONS"] = json.dumps(options.get_all_options(drop_default=True), default=str)


def put(whole: IO[bytes], uri: str) -> None:
    """Write a finished file to `uri` in one go."""
    size = whole.seek(0, 2)
    whole.seek(0)
    if not size and uri.startswith("s3://"):
        # Beam uploads in parts, and S3 refuses an upload that has none (MalformedXML).
        from apache_beam.io.aws.clients.s3.boto3_client import Client

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        Client(filesystems()._pipeline_options).client.put_object(Bucket=bucket, Key=key, Body=b"")
        return
    if uri.startswith(hadoop.SCHEME):  # the one store with names that can be seen before a file is whole
        hadoop.put(filesystems(uri).get_filesystem(uri), whole, uri, temporary_name(uri))
        return
    with filesystems().create(uri, compression_type="uncompressed") as stream:
        shutil.copyfileobj(whole, stream, 1 << 20)


def temporary_name(uri: str) -> str:
    """Where a file stands until it is whole: a name of this process on this machine."""
    return f"{uri}{TEMPORARY}{socket.gethostname()}-{os.getpid()}"


def unreachable(uri: str, error: Exception) -> StageError:
    """A remote store that cannot be listed or asked: which of its three usual causes it is."""
    scheme = uri.partition("://")[0]
    said = " ".join(str(error).split())
    if isinstance(error, ValueError | AssertionError):
        extra = {"s3": "aws", "gs": "gcp"}.get(scheme, scheme)
        hint = f"pip install 'headwater[{extra}]'" if extra != scheme else None
        problem = Problem("no-filesystem", f"nothing here opens `{uri}`", None, "a scheme that Beam knows", hint)
    elif "redential" in said:
        hint = "AWS: AWS_ACCESS_KEY_ID or ~/.aws/credentials; Google: gcloud auth application-default login"
        problem = Problem("no-credentials", f"there are no credentials for `{uri}`", None, None, hint)
    else:
        problem = Problem("unreadable-input", f"cannot read `{uri}`: {said[:300]}")
    return StageError(problem)
