import pytest

from curation.errors import ConfigError, Problem
from curation.registry import Registry


def test_an_entry_is_found_by_its_name() -> None:
    registry: Registry[int] = Registry("number")

    assert registry.add("one", 1) == 1
    assert registry.get("one") == 1
    assert "one" in registry
    assert "two" not in registry


def test_names_and_items_come_in_name_order_whatever_the_order_of_registration() -> None:
    registry: Registry[int] = Registry("number")
    for name, value in [("b", 2), ("c", 3), ("a", 1)]:
        registry.add(name, value)

    assert registry.names() == ["a", "b", "c"]
    assert list(registry.items()) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_second_entry_of_the_same_name_is_refused() -> None:
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)

    with pytest.raises(ValueError, match="number `one` is registered twice"):
        registry.add("one", 1)
    assert registry.get("one") == 1


def test_a_failed_lookup_lists_what_exists_and_guesses_what_was_meant() -> None:
    registry: Registry[int] = Registry("filter")
    registry.add("c4", 1)
    registry.add("fineweb", 2)

    with pytest.raises(ConfigError) as caught:
        registry.get("finweb", where="job.yaml: arms.curated.0")

    assert caught.value.problems == (
        Problem(
            code="unknown-filter",
            message="`finweb` is not a known filter",
            where="job.yaml: arms.curated.0",
            expected="one of: c4, fineweb",
            hint="did you mean `fineweb`?",
        ),
    )
