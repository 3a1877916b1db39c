"""Personal data in the text: email addresses, public IP addresses, phone numbers, each with its span.

What to do with a span is the ruleset's choice (`mask` puts the label in its place). Precision before recall: a
version number is no address, an order number or a date no phone number.
"""

from __future__ import annotations

import ipaddress
import re
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import spans_column
from curation.kernels.pii_scan import AT_SIGN, IPV4, IPV6, PHONE, pii_candidates
from curation.kernels.text_batch import TextBatch
from curation.settings import Settings

Kind = Literal["EMAIL", "IP", "PHONE"]
KINDS: tuple[Kind, ...] = ("EMAIL", "IP", "PHONE")

# RFC 5321 section 4.5.3.1: a local part has at most 64 octets, a domain at most 255.
LOCAL_BYTES, DOMAIN_BYTES = 64, 255
LOCAL = re.compile(rb"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9][A-Za-z0-9._%+'-]*$")
DOMAIN = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9_-])")
FILE_SUFFIXES = (b".png", b".jpg", b".jpeg", b".gif", b".svg", b".webp", b".css", b".js")  # logo@2x.png

# Numbers that carry their own country code (E.164), and North American ones: area and exchange codes do not begin
# with 0 or 1 (NANPA), the parts are set apart the same way, and ten digits in a row are left alone.
INTERNATIONAL = re.compile(r"\+[1-9](?:[ .-]?\(?\d\)?){7,14}")
NORTH_AMERICAN = re.compile(
    r"(?:1[ .-])?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]|[2-9]\d\d(?P<gap>[ .-])[2-9]\d\d(?P=gap))\d{4}"
)
VERSION_BEFORE = re.compile(r"\b(?:version|ver\.?|release|build|firmware|section|chapter|v\.?)[ :]*$", re.IGNORECASE)


class PiiSettings(Settings):
    """Which kinds to look for, and how many make the document unfit."""

    kinds: tuple[Kind, ...] = KINDS
    public_ips_only: bool = True  # a private or reserved address names nobody; datatrove does the same
    max_found: int | None = Field(default=None, ge=0)  # Dolma drops a document with more than 5


class Pii(Filter[PiiSettings]):
    name = "pii"
    summary = "email addresses, public IP addresses and phone numbers, with spans"
    settings_type = PiiSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("emails", "int64", "email addresses"),
        Signal("email_spans", "spans", "where they stand, label EMAIL"),
        Signal("ips", "int64", "IP addresses"),
        Signal("ip_spans", "spans", "where they stand, label IP"),
        Signal("phones", "int64", "phone numbers"),
        Signal("phone_spans", "spans", "where they stand, label PHONE"),
        Signal("found", "int64", "all of these together"),
    )
    measured_by = ("kinds", "public_ips_only")

    def measure(self, batch: DocumentBatch, settings: PiiSettings) -> dict[str, pa.Array]:
        spans = find_pii(batch.texts, settings)
        columns: dict[str, pa.Array] = {}
        total = np.zeros(len(batch), np.int64)
        for kind in KINDS:
            mine = np.array([(d, a, b) for d, a, b, k in spans if k == kind], np.int64).reshape(-1, 3)
            counts = np.bincount(mine[:, 0], minlength=len(batch)).astype(np.int64)
            total += counts
            name = kind.lower()
            columns[f"{name}s"] = pa.array(counts)
            columns[f"{name}_spans"] = spans_column(
                len(batch), mine[:, 0], mine[:, 1], mine[:, 2], np.zeros(len(mine), np.int32), (kind,)
            )
        columns["found"] = pa.array(total)
        return columns

    def bounds(self, settings: PiiSettings) -> tuple[Bound, ...]:
        text = {"EMAIL": "an email address", "IP": "an IP address", "PHONE": "a phone number"}
        found = tuple(
            Bound(kind.lower(), f"{kind.lower()}s", "above", 0.0, text[kind], spans=f"{kind.lower()}_spans")
            for kind in KINDS
            if kind in settings.kinds
        )
        if settings.max_found is None:
            return found
        return (*found, Bound("too_many", "found", "above", float(settings.max_found), "much personal data"))


def find_pii(batch: TextBatch, settings: PiiSettings) -> list[tuple[int, int, int, Kind]]:
    """(document, start, end, kind) of everything found, in reading order, without overlaps."""
    found: list[tuple[int, int, int, Kind]] = []
    candidates = pii_candidates(batch)
    columns = (candidates.documents, candidates.starts, candidates.ends, candidates.chars, candidates.kinds)
    free = (0, 0)  # document and byte up to which everything is taken
    for document, start, end, char, kind in zip(*(column.tolist() for column in columns), strict=True):
        first = max(int(batch.offsets[document]), free[1] if free[0] == document else 0)
        stop = int(batch.offsets[document + 1])
        if start < first:
            continue
        hit: tuple[int, int, Kind] | None = None
        if kind == AT_SIGN:
            hit = _email(batch, first, start, stop) if "EMAIL" in settings.kinds else None
        elif kind in (IPV4, IPV6):
            hit = _ip(batch, first, start, end, settings) if "IP" in settings.kinds else None
        elif kind == PHONE:
            hit = _phone(batch, start, end) if "PHONE" in settings.kinds else None
        if hit is not None:
            begin, until, label = hit
            found.append((document, char - (start - begin), char + until - start, label))
            free = (document, until)
    return found


def _email(batch: TextBatch, first: int, at: int, stop: int) -> tuple[int, int, Kind] | None:
    """The bytes of the address around the `@` at byte `at`. What stands before the sign is ASCII."""
    local = LOCAL.search(batch.data[max(first, at - LOCAL_BYTES - 1) : at].tobytes())
    domain = DOMAIN.match(batch.data[at + 1 : min(stop, at + 1 + DOMAIN_BYTES)].tobytes())
    if local is None or domain is None or len(local[0]) > LOCAL_BYTES or b".." in local[0] or local[0][-1:] == b".":
        return None
    if domain[0].lower().endswith(FILE_SUFFIXES):
        return None
    return at - len(local[0]), at + 1 + domain.end(), "EMAIL"


def _ip(batch: TextBatch, first: int, start: int, end: int, settings: PiiSettings) -> tuple[int, int, Kind] | None:
    text = batch.data[start:end].tobytes().decode()
    before = batch.data[max(first, start - 12) : start].tobytes().decode("utf-8", "ignore")
    if VERSION_BEFORE.search(before):
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if settings.public_ips_only and not address.is_global:
        return None
    # Global unicast IPv6 is 2000::/3 (RFC 4291, IANA); anything else written with colons is a time or code.
    if isinstance(address, ipaddress.IPv6Address) and (int(address) >> 125 != 1 or text.count(":") < 3):
        return None
    return start, end, "IP"


def _phone(batch: TextBatch, start: int, end: int) -> tuple[int, int, Kind] | None:
    text = batch.data[start:end].tobytes().decode()
    if INTERNATIONAL.fullmatch(text) or NORTH_AMERICAN.fullmatch(text):
        return start, end, "PHONE"
    return None


FILTERS.add("pii", Pii())
