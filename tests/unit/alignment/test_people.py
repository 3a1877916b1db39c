"""Rounds that wait for people: which answers are taken, and when there are enough of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.annotators import Guidelines
from alignment.config import ExperimentJob
from alignment.feedback.answers import Answer
from alignment.feedback.export import export
from alignment.feedback.items import Item, read_items
from alignment.feedback.store import Store
from alignment.people import ITEMS, People, PeopleSettings, WaitingForPeopleError, gather, write_questions
from alignment.preference_rows import PreferenceRow, RankedRow

DIALOGUE = [{"role": "user", "content": "Where?"}]
QUESTIONS: list[Any] = [("Why?", ["so", "not so", "perhaps"]), (DIALOGUE, ["here", "there"])]


def store_with(folder: Path, *items: Item) -> Store:
    store = Store(folder / "answers.db", create=True)
    store.add_guidelines(Guidelines(version="7", text="Prefer the true answer."))
    store.add_items(items)
    return store


def say(store: Store, item: Item, who: str, **body: Any) -> None:
    flags: list[list[str]] = [[] for _ in item.responses]
    rest = {} if "better" in body else {"ratings": [3] * len(flags), "flags": flags}
    shown = item.order_for(who)
    store.save(Answer(who, who.split("-")[0], item.id, "7", {"shown": shown, **rest, **body}))


def test_a_round_takes_the_answers_to_its_own_items_in_their_order(tmp_path: Path) -> None:
    mine = tmp_path / "round-2" / "people.jsonl"
    write_questions(mine, QUESTIONS)
    ranking, pair = read_items(mine)
    foreign = Item("of another round", "Why?", ("so", "not so", "never"))
    store = store_with(tmp_path, ranking, pair, foreign)
    say(store, pair, "south-1", better=1, strength=0)
    say(store, ranking, "south-1", ranks=[3, 1, 1])
    say(store, ranking, "north-1", ranks=[1, 2, 3])
    say(store, foreign, "north-1", ranks=[1, 2, 3])
    export(store, tmp_path / "people" / "answers")
    labels = {"source": "policy", "guidelines": "7"}
    assert People(PeopleSettings(), tmp_path / "people").rows(mine) == [
        RankedRow("Why?", ("so", "not so", "perhaps"), (1, 2, 3), "north-1", pool="north", **labels),
        RankedRow("Why?", ("so", "not so", "perhaps"), (3, 1, 1), "south-1", pool="south", **labels),
        PreferenceRow(tuple(DIALOGUE), "there", "here", 1.0, "south-1", pool="south", **labels),
    ]


def test_a_round_waits_until_the_share_of_items_it_wants_is_answered_and_says_how_many_are(tmp_path: Path) -> None:
    mine, people = tmp_path / "people.jsonl", tmp_path / "people"
    write_questions(mine, QUESTIONS)
    with pytest.raises(WaitingForPeopleError, match="0 of 2 items") as nobody:
        People(PeopleSettings(), people).rows(mine)
    assert nobody.value.exit_code == 4
    assert f"headwater feedback serve STORE --items {people / ITEMS}" in str(nobody.value)
    items = read_items(mine)
    store = store_with(tmp_path, *items)
    say(store, items[0], "north-1", ranks=[1, 2, 3])
    export(store, people / "answers")
    with pytest.raises(WaitingForPeopleError, match="1 of 2 items"):
        People(PeopleSettings(), people).rows(mine)
    assert len(People(PeopleSettings(least_answered=0.5), people).rows(mine)) == 1
    say(store, items[0], "north-1", ranks=[1, 1, 1])  # an answer that teaches nothing is an answer
    say(store, items[1], "north-1", better=0, strength=2)
    export(store, people / "answers")
    assert [row.annotator_id for row in People(PeopleSettings(), people).rows(mine)] == ["north-1"]


def test_the_items_of_all_that_wait_become_one_file_without_doubles(tmp_path: Path) -> None:
    waiting = []
    for name, questions in (("a", QUESTIONS), ("b", QUESTIONS[:1]), ("c", [("Who?", ["I", "you"])])):
        write_questions(tmp_path / name, questions)
        with pytest.raises(WaitingForPeopleError) as error:
            People(PeopleSettings(), tmp_path / "people").rows(tmp_path / name)
        waiting += error.value.problems
    assert len(gather(waiting, tmp_path / "people").problems) == 3
    found = read_items(tmp_path / "people" / ITEMS)
    assert [item.prompt for item in found] == ["Why?", DIALOGUE, "Who?"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rounds": None}, "needs `ppo.rounds`"),
        ({"annotators": {"name": "p", "preferences": [{"feature": "words", "weight": 1.0}]}}, "either simulated or"),
        ({"rounds": {"feedback_responses": 10}}, "at most 9"),
    ],
)
def test_settings_that_cannot_be_shown_to_people_are_refused(change: dict[str, Any], said: str) -> None:
    ppo = {"rows": ["p.jsonl"], "rounds": {}, "people": {}, **change}
    job = {"kind": "experiment", "output": "out", "seeds": [1], "model": "m", "reward": {"rows": ["r.jsonl"]}}
    with pytest.raises(ValueError, match=said):
        ExperimentJob.model_validate_json(json.dumps({**job, "ppo": ppo}))
