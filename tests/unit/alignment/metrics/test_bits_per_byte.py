"""Bits per byte by slices that are given and by groups that are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.metrics.base import METRICS, weighted_mean
from alignment.metrics.bits_per_byte import BitsPerByteSettings, measure

FAITHS = ("The rabbi spoke about the harvest and the rain this year.", "The imam spoke about the school and the road.")
PLAIN = "We went to the shop, bought some bread and came home before the storm reached the village on the hill."


class Counting:
    """Stands for a model: a text costs as many bits a byte as it has words; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def bits_per_byte(self, texts: Sequence[str]) -> list[float]:
        self.asked += texts
        return [float(len(text.split())) for text in texts]


def written(path: Path, texts: Sequence[str]) -> str:
    rows = [{"id": f"{path.stem}-{k}", "text": text} for k, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_documents_are_sorted_by_whom_they_name_and_scored_once(tmp_path: Path, capsys: Any) -> None:
    clean = written(tmp_path / "clean.jsonl", [PLAIN])
    both = f"{FAITHS[0]} {FAITHS[1]}"
    mixed = written(tmp_path / "mixed.jsonl", [*[FAITHS[0]] * 60, *[both] * 70, *[FAITHS[1]] * 5, *[PLAIN] * 400])
    model = Counting()

    scores = measure(model, BitsPerByteSettings(slices={"clean": clean}, groups=mixed, of_a_group=100))  # type: ignore[arg-type]

    def size(name: str) -> int:
        return len(scores[f"bits_per_byte.{name}"])

    assert weighted_mean(scores["bits_per_byte.clean"]) == len(PLAIN.split())
    assert (size("names_religion_jewish"), size("names_religion_muslim"), size("names_nobody")) == (100, 75, 100)
    jewish = {item.item_id: item.value for item in scores["bits_per_byte.names_religion_jewish"]}
    muslim = {item.item_id: item.value for item in scores["bits_per_byte.names_religion_muslim"]}
    shared = jewish.keys() & muslim.keys()
    assert shared
    assert {jewish[name] for name in shared} == {float(len(both.split()))}
    assert len(model.asked) == 1 + len(
        jewish.keys() | muslim.keys() | {i.item_id for i in scores["bits_per_byte.names_nobody"]}
    )
    assert "names_religion_sikh" in capsys.readouterr().err  # too few documents: said, not averaged
    assert "bits_per_byte.names_religion_sikh" not in scores


def test_a_dialect_slice_holds_texts_in_that_dialect(tmp_path: Path) -> None:
    aae = "finna bouta ion even wanna go outside dis trippin lol bruh dat aint right fasho gotta yall tryna"
    wae = "Heading to the lake with the family this weekend, cannot wait for the football game and great food tonight."
    path = written(tmp_path / "mixed.jsonl", [*[aae] * 60, *[wae] * 1140])

    scores = measure(Counting(), BitsPerByteSettings(slices={}, groups=path))  # type: ignore[arg-type]

    assert {item.value for item in scores["bits_per_byte.aae"]} == {float(len(aae.split()))}
    assert {item.value for item in scores["bits_per_byte.wae"]} == {float(len(wae.split()))}


def test_the_file_of_the_groups_is_looked_for_before_anything_is_trained(tmp_path: Path) -> None:
    clean = written(tmp_path / "clean.jsonl", [PLAIN])
    settings = BitsPerByteSettings(slices={"clean": clean}, groups=str(tmp_path / "none.jsonl"))
    metric = METRICS.get("bits_per_byte")

    assert [path for path, _ in metric.item_files(settings)] == [clean, str(tmp_path / "none.jsonl")]
    assert [path for path, _ in metric.item_files(BitsPerByteSettings(slices={"clean": clean}))] == [clean]
    assert "groups" not in BitsPerByteSettings(slices={}).model_dump()  # an experiment of before keeps its fingerprint
