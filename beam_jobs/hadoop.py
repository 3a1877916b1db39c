"""What Beam's HDFS lacks for a run: files below folders, folders that are not there yet, and replacing a file at once.

Beam lists one folder only, takes an absent one for an error, refuses to write over a file, and shows a file while it
is being written. HDFS itself renames over an existing file in one step, which WebHDFS calls `renameoptions=OVERWRITE`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from curation.errors import Problem, StageError

SCHEME = "hdfs://"
OPTIONS = ("hdfs_host", "hdfs_port", "hdfs_user")
COPY_BYTES = 1 << 20


def check(options: Any, uri: str) -> None:
    """Whether `uri` can be asked for at all.

    Raises:
        StageError: the client is not installed, or nothing says where the cluster is.
    """
    if importlib.util.find_spec("hdfs") is None:
        hint = "pip install 'headwater[hdfs]'"
        raise StageError(Problem("no-filesystem", f"nothing here opens `{uri}`", None, "Beam's HDFS client", hint))
    given = options.get_all_options()
    absent = [f"--{name}" for name in OPTIONS if given[name] is None]
    if absent:
        expected = "after `--`: --hdfs_host=NAMENODE --hdfs_port=9870 --hdfs_user=USER"
        message = f"nothing says where HDFS is: {', '.join(absent)} missing for `{uri}`"
        raise StageError(Problem("missing-option", message, None, expected, "the port is that of WebHDFS"))


def match(filesystem: Any, pattern: str) -> list[str]:
    """Files that match a path or glob, folders below included; none where the folder is not there.

    Args:
        filesystem: Beam's class for HDFS.

    Raises:
        OSError: the cluster cannot be asked.
    """
    client = filesystem._hdfs_client
    fixed = re.match(r"[^[*?]*", pattern)[0]  # type: ignore[index]  # matches the empty string too
    folder = pattern if fixed == pattern else fixed.rpartition("/")[0] + "/"
    server, path = filesystem._parse_url(folder)
    with _as_os_errors():
        status = client.status(path, strict=False)
        if fixed == pattern:
            return [pattern] if status is not None and status["type"] == "FILE" else []
        if status is None or status["type"] == "FILE":
            return []
        depth = 0 if "**" in pattern else pattern.removeprefix(folder).count("/") + 1
        found = [
            "hdfs:/" + filesystem._join(server, below, name)
            for below, _, names in client.walk(path.rstrip("/") or "/", depth=depth, ignore_missing=True)
            for name in names
        ]
    matches = re.compile(filesystem.translate_pattern(pattern)).match
    return [uri for uri in found if matches(uri)]


def put(filesystem: Any, whole: IO[bytes], uri: str, temporary: str) -> None:
    """Write a finished file beside `uri` and rename it over what is there.

    Raises:
        OSError: the cluster refuses, or is full.
    """
    client = filesystem._hdfs_client
    (_, path), (_, aside) = filesystem._parse_url(uri), filesystem._parse_url(temporary)
    with _as_os_errors():
        try:
            with client.write(aside, overwrite=True) as stream:
                shutil.copyfileobj(whole, stream, COPY_BYTES)
            client._rename(aside, destination=path, renameoptions="OVERWRITE")
        except BaseException:
            client.delete(aside)
            raise


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """The client's own error class has no base but Exception."""
    from hdfs import HdfsError

    try:
        yield
    except HdfsError as error:
        raise OSError(str(error)) from error
