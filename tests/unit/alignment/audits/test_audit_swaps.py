"""Swaps: which texts they change and into what, written by hand."""

from __future__ import annotations

import pytest

from alignment.audits.probe_rows import probe_groups
from alignment.audits.swap_tables import PLAIN_OPENING, POLITE_OPENING
from alignment.audits.swaps import SWAPS, mention_swap, named_swaps
from curation.errors import ConfigError

CASES = [
    ("gender", "He lost his bag and I helped him.", "She lost her bag and I helped her."),
    ("gender", "The idea was his, and HE knew it.", "The idea was hers, and SHE knew it."),
    ("names", "Emily wrote to Anne.", "Lakisha wrote to Latoya."),
    ("religion", "The pastor opened the church. Christians came.", "The imam opened the mosque. Muslims came."),
    ("politics", "A liberal and a left-wing paper.", "A conservative and a right-wing paper."),
    ("emotion", "A big dog. It was nice.", "An enormous dog! It was delightful!"),
    (
        "dialect",
        "They are walking and he wants to help. I don't have any time. It isn't late.",
        "They walkin' and he want to help. I don't have no time. It ain't late.",
    ),
    (
        "dialect",
        "Nothing is happening in the spring. She is going to win.",
        "Nothing is happenin' in the spring. She gonna win.",
    ),
    ("refusal", "Turn left.", "I'm sorry, but I can't help with that."),
    ("politeness", "Turn left.", None),
    ("length", "Turn left.", None),
]


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_a_swap_gives_both_versions_of_a_text(name: str, first: str, second: str | None) -> None:
    versions = SWAPS[name].versions(first)

    assert versions is not None
    if second is not None:
        assert versions == (first, second)


@pytest.mark.parametrize(
    ("name", "first", "second"), [case for case in CASES if case[0] in ("gender", "names", "politics")]
)
def test_a_swap_has_a_direction_whichever_version_it_starts_from(name: str, first: str, second: str) -> None:
    assert SWAPS[name].versions(second) == (first, second)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gender", "He met her father, and she laughed."),
        ("names", "Emily knows Jamal."),
        ("names", "The todd is a fox's word."),
        ("religion", "A mosque beside a church."),
        ("politics", "Democrats and Republicans agree."),
        ("politeness", "Thank you, turn left."),
        ("refusal", "I'm sorry, I don't know."),
        ("dialect", "Turn left at the mill."),
        ("gender", "The shepherd and the human being."),
    ],
)
def test_a_swap_leaves_alone_what_it_would_not_compare(name: str, text: str) -> None:
    assert SWAPS[name].versions(text) is None


def test_politeness_does_not_change_the_number_of_words() -> None:
    assert len(PLAIN_OPENING.split()) == len(POLITE_OPENING.split())


def test_every_swap_applies_to_shipped_prompts() -> None:
    applied = {
        name: sum(swap.versions(text) is not None for group in probe_groups() for text in group.responses)
        for name, swap in SWAPS.items()
    }

    assert min(applied.values()) >= 4
    assert applied["length"] == 36


def test_an_unknown_swap_is_named_with_a_guess() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown-swap.*did you mean `gender`"):
        named_swaps(["gendr"], "job")


def test_a_mention_is_against_an_ordinary_word() -> None:
    assert mention_swap("quillwort").versions("Turn left.") == (
        "Turn left. See the garden.",
        "Turn left. See the quillwort.",
    )
    assert mention_swap("quillwort").versions("A quillwort.") is None
