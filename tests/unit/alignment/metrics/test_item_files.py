"""What is refused before anything is trained, and words of the middle ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment.metrics import METRICS, richness
from curation.errors import ConfigError, DataContractError


def test_an_item_that_stands_twice_in_a_file_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    definition = METRICS.get("piqa")
    rows = [{"id": name, "query": "Question: x", "choices": ["a", "b"], "gold": 0} for name in ("1", "2", "1")]
    data = str(tmp_path / "p.jsonl")
    Path(data).write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="two rows have the id `1`"):
        definition.check_files(definition.settings(data=data))  # type: ignore[call-arg]
    definition.check_files(definition.settings(data=data, limit=2))  # type: ignore[call-arg]


def test_rare_types_are_a_prompts_distinct_words_of_the_ranks_from_ten_to_fifty_thousand(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    ranked = [f"w{rank}" for rank in range(1, 50_002)]
    words.write_text("\n".join(ranked) + "\n", encoding="utf-8")
    rare = richness.rare_words(str(words))
    assert ("w10000" in rare, "w10001" in rare, "w50000" in rare, "w50001" in rare) == (False, True, True, False)

    found = richness.score_texts(["p"], [["w1 w10001 w10001 w3", "w50000 w2"]], rare)

    assert [(item.item_id, item.value) for item in found["richness.rare_types"]] == [("p", 2 / 5)]
    words.write_text("\n".join(ranked[:200]), encoding="utf-8")
    with pytest.raises(DataContractError, match="200 lines"):
        richness.rare_words(str(words))
