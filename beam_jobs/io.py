"""Files, local or behind a Beam filesystem (gs://, s3://, hdfs://): matched, opened, and written once.

A file appears under its final name only when it is whole: locally and on HDFS by a temporary name and a rename; on an
object store by its single put, which is atomic. Nothing else in this folder opens a path.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import remote
from beam_jobs.remote import filesystems, put, unreachable
from curation.errors import Problem, StageError
from curation.sources.discover import data_files, local_files, nothing_at

# Pages that stay in the processor's cache while they are filled, compressed, hashed and written, and whose memory is
# used again: 100 MB of text took 0.37 s uncompressed in pages of 2 MB and 0.15 s in pages of 64 KB; with zstd 0.53 s,
# and 0.45 s in pages of 256 KB, which are as small on disk (128 KB: 0.50 s).
PLAIN_PAGE_BYTES, PAGE_BYTES = 1 << 16, 1 << 18
SPOOLED_BYTES = 32 << 20  # a file for a remote store waits in memory up to this size, above on disk
TEMPORARY = remote.TEMPORARY


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> str:
    return uri.removeprefix("file://")


def join(root: str, *parts: str) -> str:
    return "/".join((root.rstrip("/"), *parts))


class BeamOpener:
    """Opens inputs for `curation.sources`: local files directly, everything else through Beam's filesystems."""

    def open(self, uri: str) -> BinaryIO:
        try:
            if is_local(uri):
                return open(local_path(uri), "rb")  # the caller closes it
            return cast(BinaryIO, filesystems(uri).open(uri, compression_type="uncompressed"))
        except OSError as error:
            raise StageError(Problem("unreadable-input", f"cannot read `{uri}`: {error.strerror or error}")) from error

    def size(self, uri: str) -> int:
        try:
            if is_local(uri):
                return os.path.getsize(local_path(uri))
            return int(filesystems(uri).match([uri])[0].metadata_list[0].size_in_bytes)
        except (OSError, IndexError) as error:
            raise StageError(Problem("unreadable-input", f"cannot read `{uri}`: {error}")) from error


@contextmanager
def parquet_file(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file of a run; a local one is mapped, so that what lies uncompressed is copied once, not three times.

    Raises:
        StageError: it cannot be opened.
    """
    if not is_local(uri):
        with BeamOpener().open(uri) as stream:
            yield pq.ParquetFile(stream)
        return
    try:
        source = pa.memory_map(local_path(uri))
    except OSError as error:
        raise StageError(Problem("unreadable-input", f"cannot read `{uri}`: {error.strerror or error}")) from error
    with source:
        yield pq.ParquetFile(source)


def match(pattern: str) -> list[str]:
    """Files that match a path, glob or URI, sorted; a local directory matches itself."""
    if is_local(pattern):
        return sorted(glob.glob(local_path(pattern), recursive=True))
    return sorted(remote.match(pattern))


def exists(uri: str) -> bool:
    """Raises StageError where the store itself cannot be asked."""
    if is_local(uri):
        return os.path.exists(local_path(uri))
    try:
        return bool(filesystems(uri).exists(uri))
    except (OSError, ValueError, AssertionError) as error:
        raise unreachable(uri, error) from error


def read_bytes(uri: str) -> bytes:
    with BeamOpener().open(uri) as stream:
        return stream.read()


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


@contextmanager
def writing(uri: str) -> Iterator[BinaryIO]:
    """A stream whose content is at `uri` after the block, whole or not at all.

    Raises:
        StageError: the disk is full or the place cannot be written; names the file.
    """
    try:
        if is_local(uri):
            path = Path(local_path(uri))
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
            try:
                with open(temporary, "wb") as stream:
                    yield stream
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        else:
            # Closing a half-written stream would publish it: the object is put only once all of it is there.
            with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as whole:
                yield cast(BinaryIO, whole)
                put(whole, uri)
    except OSError as error:
        raise cannot_write(uri, error) from error


def cannot_write(uri: str, error: OSError) -> StageError:
    """The error of a full disk, or of a place where nothing may be written."""
    return StageError(
        Problem(
            "cannot-write",
            f"cannot write `{uri}`: {error.strerror or error}",
            hint="make room, then run the same command again: finished shards are not redone",
        )
    )


def write_bytes(uri: str, data: bytes) -> None:
    with writing(uri) as stream:
        stream.write(data)


def write_listed(run: str, path: str, data: bytes, documents: int) -> dict[str, Any]:
    """Write a file of a run; returns what the manifest lists of it."""
    write_bytes(join(run, path), data)
    return Written(path, documents, len(data), hashlib.sha256(data).hexdigest()).plain()


def write_json(uri: str, value: object, indent: int | None = None) -> None:
    write_bytes(uri, (json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False) + "\n").encode())


@dataclass(frozen=True)
class Written:
    """What a file is after it was written: enough to prove later that it is unchanged."""

    path: str
    documents: int
    bytes: int
    sha256: str

    def plain(self) -> dict[str, Any]:
        return {"path": self.path, "documents": self.documents, "bytes": self.bytes, "sha256": self.sha256}


class _Hashing:
    """A write-through stream that hashes and counts what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.hash, self.size, self.closed, self.abandoned = stream, hashlib.sha256(), 0, False, False

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        if self.abandoned:  # the Parquet writer still puts its footer when it is collected
            return view.nbytes
        self.hash.update(view)
        self.size += view.nbytes
        self.stream.write(view)
        return view.nbytes

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.closed = True


def writing_options(schema: pa.Schema, uncompressed: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Options of `pq.ParquetWriter` for the columns of `schema`: zstd level 1 where it pays.

    A dictionary of whole texts or of hashes never pays (a quarter of the writing time, measured), nor do their
    extremes; hashes do not compress at all.
    """
    hashes = {field.name for field in schema if field.type in (pa.uint64(), pa.binary(32))}
    unlike = {"doc_id", "url", "text", "metadata", "text_sha256", *hashes}  # columns that hardly ever repeat a value
    plain = uncompressed | hashes
    codec = {field.name: "none" if field.name in plain else "zstd" for field in schema}
    return {
        "compression": codec,
        "compression_level": {name: 1 for name in schema.names if name not in plain},
        "use_dictionary": [name for name in schema.names if name not in unlike],
        "write_statistics": [name for name in schema.names if name not in {"text", "metadata", *hashes}],
        "data_page_size": PLAIN_PAGE_BYTES if uncompressed else PAGE_BYTES,
        "write_batch_size": 64,  # rows after which a page is looked at: 1,024, the default, are 2 MB of text
    }


class ParquetShard:
    """One Parquet file of a run, written batch by batch: each `write` is one row group.

    The bytes are a function of the batches alone: nothing of the clock or the host is in them.
    """

    def __init__(self, run: str, path: str, schema: pa.Schema, uncompressed: frozenset[str] = frozenset()) -> None:
        """Args: uncompressed: columns that are read again soon, or whose size does not matter."""
        self.path, self.uri, self.schema, self.rows = path, join(run, path), schema, 0
        self._block = writing(self.uri)
        self._sink = _Hashing(self._block.__enter__())
        self._writer = pq.ParquetWriter(self._sink, schema, **writing_options(schema, uncompressed))

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self.rows += table.num_rows
            try:
                self._writer.write_table(table, row_group_size=table.num_rows)
            except OSError as error:
                raise cannot_write(self.uri, error) from error

    def close(self) -> Written:
        """The file under its final name. Raises StageError as `writing`."""
        try:
            self._writer.close()
        except OSError as error:
            raise cannot_write(self.uri, error) from error
        self._block.__exit__(None, None, None)
        return Written(self.path, self.rows, self._sink.size, self._sink.hash.hexdigest())

    def abandon(self, error: BaseException) -> None:
        """Give up: nothing is left under the final or a temporary name."""
        self._sink.abandoned = True
        self._block.__exit__(type(error), error, None)


@contextmanager
def parquet_shards(
    run: str, files: dict[str, tuple[str, pa.Schema]], uncompressed: Mapping[str, frozenset[str]] | None = None
) -> Iterator[dict[str, ParquetShard]]:
    """Several shards at once, by key: (path below the run, schema). On an error none of them appears."""
    plain = uncompressed or {}
    shards = {
        key: ParquetShard(run, path, schema, plain.get(key, frozenset())) for key, (path, schema) in files.items()
    }
    try:
        yield shards
    except BaseException as error:
        for shard in shards.values():
            try:
                shard.abandon(error)
            except BaseException as again:  # the context manager re-raises what it was given
                if again is not error and not isinstance(again.__cause__, type(error)):
                    raise
        raise


def sha256_of(uri: str) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with BeamOpener().open(uri) as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def identities(uris: list[str]) -> list[dict[str, Any]]:
    """{uri, bytes, sha256} of every input. Objects on a remote store are identified by the store's own checksum."""

    def identity(uri: str) -> dict[str, Any]:
        opener = BeamOpener()
        if is_local(uri):
            return {"uri": uri, "bytes": opener.size(uri), "sha256": sha256_of(uri)}
        checksum = filesystems(uri).checksum(uri)
        return {"uri": uri, "bytes": opener.size(uri), "sha256": None, "checksum": str(checksum)}

    with ThreadPoolExecutor(4) as pool:  # hashlib releases the GIL
        return list(pool.map(identity, uris))


@contextmanager
def only_process(run: str) -> Iterator[None]:
    """Keeps a second process out of a local run until the block ends; the lock dies with its process.

    Raises:
        StageError: another process is at work there.
    """
    if not is_local(run):
        yield
        return
    path = Path(local_path(run), "work", "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = Problem("run-in-use", "another process is working on this run", run, "one process a run")
            raise StageError(problem) from None
        yield
        path.unlink(missing_ok=True)


def link_or_copy(source: str, target: str) -> None:
    """`target` with the bytes of `source`: a hard link where the filesystem can, otherwise a copy."""
    if is_local(source) and is_local(target):
        path = Path(local_path(target))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        try:
            os.link(local_path(source), path)
        except OSError:
            temporary = f"{path}{TEMPORARY}{os.getpid()}"
            shutil.copyfile(local_path(source), temporary)
            os.replace(temporary, path)
    else:
        write_bytes(target, read_bytes(source))


def remove_tree(uri: str) -> None:
    if is_local(uri):
        shutil.rmtree(local_path(uri), ignore_errors=True)
    elif files := match(join(uri, "**")):  # an object store knows no folders
        filesystems(uri).delete(files)


def remove_temporaries(run: str) -> int:
    """Delete what killed writers left below a run; returns how many files."""
    if not is_local(run):
        return remote.remove_temporaries(run)
    count = 0
    for path in Path(local_path(run)).rglob(f"*{TEMPORARY}*"):
        path.unlink(missing_ok=True)
        count += 1
    return count


def input_files(pattern: str) -> list[str]:
    """The data files of an input, local or remote: itself, what a glob matches, or what lies below a folder.

    Raises:
        StageError: no-input; there is nothing there.
    """
    if is_local(pattern):
        return [os.path.normpath(path) for path in local_files(local_path(pattern))]
    # A folder first: HDFS matches its bare name as if it were a file.
    found = [] if glob.has_magic(pattern) else _below(pattern)
    found = found or [uri for uri in match(pattern) if not uri.endswith("/")]
    if not found:
        raise nothing_at(pattern)
    return found


def _below(folder: str) -> list[str]:
    """The data files below a remote folder; none when it is a file or missing."""
    root = join(folder, "")
    try:
        listing = match(root + "**")
    except StageError:  # a file system with folders refuses to list a file; the match by name speaks then
        return []
    return [root + name for name in data_files(uri.removeprefix(root) for uri in listing)]
