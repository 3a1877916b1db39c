import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import __version__
from curation.fingerprint import FINGERPRINT_HEX, canonical_json, code_version, fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_fingerprint_is_the_first_digits_of_the_sha256_of_the_canonical_json() -> None:
    value = {"b": [1, 2.5, None], "a": "ü"}

    assert canonical_json(value) == '{"a":"ü","b":[1,2.5,null]}'
    assert fingerprint(value) == hashlib.sha256('{"a":"ü","b":[1,2.5,null]}'.encode()).hexdigest()[:FINGERPRINT_HEX]


def test_the_order_of_keys_does_not_change_it() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_the_order_of_a_list_does() -> None:
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_a_tuple_is_the_list_it_was_in_the_file() -> None:
    assert fingerprint({"arms": ("raw", "curated")}) == fingerprint({"arms": ["raw", "curated"]})


@given(PLAIN)
def test_plain_data_always_has_one(value: object) -> None:
    assert fingerprint(value) == fingerprint(value)
    assert len(fingerprint(value)) == FINGERPRINT_HEX


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": len}}, "value.a.b: builtin_function_or_method is not plain data"),
        ({"a": [1, {2}]}, r"value.a\[1\]: set is not plain data"),
        ({1: "x"}, "value: keys must be strings, got 1"),
        ([math.nan], r"value\[0\]: nan has no canonical form"),
        ([math.inf], r"value\[0\]: inf has no canonical form"),
        ({"a": b"x"}, "value.a: bytes is not plain data"),
    ],
)
def test_what_could_differ_between_two_runs_is_refused_with_its_place(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fingerprint(value)


def test_the_code_version_names_the_package_version_and_a_hash_of_the_code() -> None:
    version, _, code = code_version().partition("+")

    assert version == __version__
    assert len(code) == 12
    assert set(code) <= set("0123456789abcdef")
