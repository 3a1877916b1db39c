"""An HTTP response as archived: its header and its body, chunks joined and compression undone where it is there.

Archives disagree with themselves: Common Crawl keeps `Transfer-Encoding: chunked` over bodies it has joined already.
So a body that is not what its header says is taken as it stands.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

from curation.errors import RecordError

MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Response:
    """Status code, headers with lower-case names (the last of a name counts), body as the browser would see it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """`text/html` and the like, lower case, without parameters; empty when there is none."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        return charset_of(self.headers.get("content-type", ""))


def charset_of(content_type: str) -> str | None:
    """The charset parameter of a Content-Type header."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None


def parse_headers(lines: list[bytes]) -> dict[str, str]:
    """`Name: value` lines as a mapping by lower-case name; folded lines are joined, lines without a colon ignored."""
    headers: dict[str, str] = {}
    last = None
    for line in lines:
        if line[:1] in (b" ", b"\t") and last is not None:
            headers[last] += " " + line.decode("utf-8", "replace").strip()
            continue
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            last = name.strip().lower()
            headers[last] = value.strip()
    return headers


def parse_response(block: bytes, max_bytes: int) -> Response:
    """The response in the block of a WARC record.

    Raises:
        RecordError: no status line, or the body is larger than `max_bytes` when decompressed.
    """
    head, body = _split(block)
    lines = head.replace(b"\r\n", b"\n").split(b"\n")
    parts = lines[0].split(None, 2)
    if not parts or not parts[0].startswith(b"HTTP/") or len(parts) < 2 or not parts[1].isdigit():
        raise RecordError("no HTTP status line")
    headers = parse_headers(lines[1:])
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = joined(body)
    for coding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decoded(body, coding.strip(), max_bytes)
    return Response(int(parts[1]), headers, body)


def _split(block: bytes) -> tuple[bytes, bytes]:
    ends = [
        (at, at + len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := block.find(mark, 0, MAX_HEADER_BYTES)) >= 0
    ]
    if not ends:
        return block[:MAX_HEADER_BYTES], b""
    at, after = min(ends)
    return block[:at], block[after:]


def joined(body: bytes) -> bytes:
    """The chunks of a body one after the other; the body itself when it is not chunked after all."""
    parts: list[bytes] = []
    position = 0
    while position < len(body):
        end = body.find(b"\n", position, position + 64)
        try:
            size = int(body[position:end].split(b";")[0].strip(), 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0:
            return b"".join(parts) if parts else body
        if size == 0:
            break
        parts.append(body[end + 1 : end + 1 + size])
        position = end + 1 + size
        while body[position : position + 1] in (b"\r", b"\n"):
            position += 1
    return b"".join(parts)


def _decoded(body: bytes, coding: str, max_bytes: int) -> bytes:
    if coding in ("gzip", "x-gzip") and body[:2] == b"\x1f\x8b":
        return _inflated(body, 31, max_bytes)
    if coding == "deflate" and body:
        # The header means zlib, some servers send bare deflate.
        return _inflated(body, 15 if body[0] & 0x0F == 8 else -15, max_bytes)
    if coding == "zstd" and body[:4] == b"\x28\xb5\x2f\xfd":
        try:
            return zstandard.ZstdDecompressor().stream_reader(body).read(max_bytes + 1)[:max_bytes]
        except zstandard.ZstdError:
            return body
    if coding == "br" and body and body.lstrip()[:1] != b"<":
        return _brotli(body, max_bytes)
    return body


def _inflated(body: bytes, window: int, max_bytes: int) -> bytes:
    """What can be inflated: crawlers cut long pages, and a cut page is still a page."""
    decoder = zlib.decompressobj(window)
    try:
        out = decoder.decompress(body, max_bytes)
    except zlib.error:
        return body
    if decoder.unconsumed_tail:
        raise RecordError(f"giant page: more than {max_bytes} bytes when decompressed")
    return out


def _brotli(body: bytes, max_bytes: int) -> bytes:
    try:
        import brotli  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise RecordError("content-encoding br, and no brotli library is installed") from None
    try:
        out: bytes = brotli.decompress(body)
    except brotli.error:
        return body
    if len(out) > max_bytes:
        raise RecordError(f"giant page: more than {max_bytes} bytes when decompressed")
    return out
