"""Personal data: what is found, what is left alone, and where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.filters.measuring import codes, measured

FOUND = [
    ("mail me: joe.o'neil@a-b.example.co.uk.", ("email", "joe.o'neil@a-b.example.co.uk")),
    ("<x_y@example.org>", ("email", "x_y@example.org")),
    ("ünï ☕ a@example.org", ("email", "a@example.org")),
    ("ping 93.184.216.34:8080 now", ("ip", "93.184.216.34")),
    ("(93.184.216.34)", ("ip", "93.184.216.34")),
    ("from 2606:2800:220:1:248:1893:25c8:1946.", ("ip", "2606:2800:220:1:248:1893:25c8:1946")),
    ("call (415) 555-2671", ("phone", "(415) 555-2671")),
    ("call 415-555-2671.", ("phone", "415-555-2671")),
    ("1-800-555-0199", ("phone", "1-800-555-0199")),
    ("+49 30 901820", ("phone", "+49 30 901820")),
    ("tel +442079460958", ("phone", "+442079460958")),
]
LEFT_ALONE = [
    "foo@bar", "@example.org", "a@.org", "a..b@example.org.", "icon@2x.png", "user@", "é@example.org",
    "10.0.0.1", "127.0.0.1", "255.255.255.255", "192.168.1.1", "1.2.3", "1.2.3.4.5", "v1.2.3.4", "version 10.20.30.40",
    "999.1.1.1", "8.8.8.8a", "12:34:56", "std::map", "a::b", "fe80::1", "::1", "dead:beef::",
    "2024-01-15", "15.01.2024", "01/15/2024", "4111 1111 1111 1111", "order 4155552671", "415-555-26711",
    "$415-555-2671",
    "1234567", "3.141592653", "100-200-3000", "555-1234", "1,234,567", "ISBN 978-3-16-148410-0", "+1 2", "2001-2010",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_personal_data_is_found_with_its_span(text: str, expected: tuple[str, str]) -> None:
    kind, piece = expected
    start = text.index(piece)
    spans = {name: measured("pii", [text])[f"{name}_spans"] for name in ("email", "ip", "phone")}
    assert spans == {
        name: [[{"start": start, "end": start + len(piece), "label": name.upper()}] if name == kind else []]
        for name in spans
    }


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert codes("pii", [f"We saw {text} there"]) == [[]]


def test_kinds_and_private_addresses_are_settings() -> None:
    text = "a@example.org 192.168.1.1"
    assert codes("pii", [text], kinds=["IP"]) == [[]]
    assert codes("pii", [text], public_ips_only=False) == [["email", "ip"]]


def test_dolma_drops_a_document_with_more_than_five() -> None:
    addresses = [f"user{k}@example.org" for k in range(6)]
    assert codes("pii", [" ".join(addresses[:5]), " ".join(addresses)], max_found=5) == [
        ["email"],
        ["email", "too_many"],
    ]


@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_an_address_between_spaces_is_found_whatever_stands_around(before: str, after: str) -> None:
    text = f"{before} joe@example.org {after}"
    spans = measured("pii", ["é", text], kinds=["EMAIL"])["email_spans"][1]
    assert "joe@example.org" in [text[span["start"] : span["end"]] for span in spans]


@given(st.lists(st.text(st.sampled_from("a1.@-:+() é9fF"), max_size=40), max_size=4))
def test_spans_lie_inside_their_text_in_order_and_apart(texts: list[str]) -> None:
    found = measured("pii", texts)
    for row, text in enumerate(texts):
        spans = sorted((s["start"], s["end"]) for k in ("email", "ip", "phone") for s in found[f"{k}_spans"][row])
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
        assert all(0 <= edge <= len(text) for edge in edges)
        assert found["found"][row] == len(spans)
