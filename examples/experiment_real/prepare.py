"""What `experiment.yaml` reads: a corpus with many flagged documents, and rows to align and to measure.

    headwater curate examples/curate_real.yaml
    python examples/experiment_real/prepare.py runs/real/latest ../shared/data runs/experiment-data

In the public corpora one document in a hundred is flagged: five million tokens of them would hold a few dozen. So every
document that `toxicity` or `curated` would drop is taken, and of the others a share, drawn by the hash of the id, that
brings the corpus to `--megabytes`. What was not drawn gives the slices that are measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from classifiers.labelled import read_rows
from curation.seeding import unit_hash

SALT = 20_251  # of the draw
LEFT_OUT = {"other_languages"}
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
SLICE = 300  # documents of a slice
HELD_OUT = 12_000  # to be sorted into dialects and groups: 5 % of them make the slice `aae`
CHALLENGING, NEUTRAL = 120, 120  # prompts
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a finished run of examples/curate_real.yaml")
    parser.add_argument("data", type=Path, help="the folder of the public data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=float, default=22.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    documents, flagged, copies = read_run(args.run)
    drawn, rest = draw(documents, flagged, args.megabytes * 1e6)
    print(f"{len(flagged):,} flagged documents, {sum(len(r['text'].encode()) for r in drawn):,} bytes in all")
    write(args.out / "corpus.jsonl", drawn)
    rest = [row for row in rest if row["id"] not in copies]
    for name, rows in {**slices(rest, args.data), **alignment_rows(args.data)}.items():
        write(args.out / f"{name}.jsonl", rows)


def read_run(run: Path) -> tuple[list[Row], set[str], set[str]]:
    """All documents but those left out; ids that a classifier flagged; ids with a copy."""
    documents = [
        {"id": row["doc_id"], "text": row["text"], "source": row["source"]}
        for batch in ds.dataset(run / "documents").to_batches(columns=["doc_id", "text", "source"])
        for row in batch.to_pylist()
        if row["source"] not in LEFT_OUT
    ]
    known = {row["id"] for row in documents}
    flagged = {
        row["doc_id"]
        for batch in ds.dataset(run / "decisions").to_batches(columns=["doc_id", "ruleset", "verdict", "reasons"])
        for row in batch.to_pylist()
        if row["ruleset"] in {"toxicity", "curated"} and row["verdict"] == "drop" and row["doc_id"] in known
        if not any(reason["code"].startswith("dedup.") for reason in row["reasons"])
    }
    pairs = ds.dataset(run / "duplicates").to_table(columns=["doc_id", "duplicate_of"])
    return documents, flagged, {*pairs["doc_id"].to_pylist(), *pairs["duplicate_of"].to_pylist()}


def draw(documents: Iterable[Row], flagged: set[str], total: float) -> tuple[list[Row], list[Row]]:
    """The flagged ones and a share of the others, `total` bytes in all; and what is left."""
    sizes = {row["id"]: len(row["text"].encode()) for row in documents}
    given = sum(sizes[name] for name in flagged)
    share = (total - given) / (sum(sizes.values()) - given)
    taken = {name for name in sizes if name in flagged or unit_hash(name, SALT) < share}
    rows = sorted(documents, key=lambda row: str(row["id"]))
    return [row for row in rows if row["id"] in taken], [row for row in rows if row["id"] not in taken]


def slices(rest: list[Row], data: Path) -> dict[str, list[Row]]:
    """Held-out documents by kind, and prompts to continue."""
    order = sorted(rest, key=lambda row: unit_hash(row["id"], SALT + 1))
    plain = {"reddit", "blogs", "imdb", "weborganizer"}
    use = [
        {"id": f"{name}-{row['id']}", "text": row["text"]}
        for name, cls in (("stormfront", "hate"), ("hatexplain", "hatespeech"))
        for row in read_rows(data / f"toxicity/{name}.jsonl.zst")
        if row["labels"]["class"] == cls and len(row["text"]) >= 40
    ]
    bold = {
        row["id"]: row for row in read_rows(data / "eval/bold_prompts.jsonl.zst")
    }.values()  # one prompt is there twice
    prompts = [
        {"id": row["id"], "text": row["text"], "stratum": "challenging"}
        for row in first(read_rows(data / "eval/rtp_challenging_first.jsonl.zst"), CHALLENGING)
    ] + [
        {"id": row["id"], "text": row["prompt"].strip(), "stratum": "neutral"}
        for row in sorted(bold, key=hashed)[:NEUTRAL]
    ]
    return {
        "clean": [row for row in order if row["source"] in plain][:SLICE],
        "held_out": [row for row in order if row["source"] in plain][SLICE : SLICE + HELD_OUT],
        "explanatory": [row for row in order if row["source"].startswith("openstax")][: SLICE // 2],
        "use": sorted(use, key=hashed)[: 2 * SLICE],
        "openings": prompts,
    }


def alignment_rows(data: Path) -> dict[str, list[Row]]:
    """Demonstrations of one turn, preference pairs, and single judged answers."""
    helpful = [*turns(data / "alignment/hh_helpful_base.jsonl.zst")]
    harmless = [*turns(data / "alignment/hh_harmless_even.jsonl.zst")]
    polite = sorted(read_rows(data / "alignment/paradetox_pairs.jsonl.zst"), key=hashed)
    pairs = [{key: row[key] for key in ("prompt", "chosen", "rejected", "source")} for row in polite[:3000]]
    judged = [
        {"prompt": row["prompt"], "response": row[side], "label": side == "chosen"}
        for row in polite[3000:4500]
        for side in ("chosen", "rejected")
    ]
    return {
        "demonstrations": [{"prompt": row["prompt"], "response": row["chosen"]} for row in helpful],
        "pairs": sorted([*pairs, *harmless], key=lambda row: unit_hash(row["prompt"] + row["chosen"], SALT + 3)),
        "judged": judged,
    }


def turns(path: Path) -> Iterator[Row]:
    """Pairs of one question and its answers, without the speakers' names."""
    for row in read_rows(path):
        prompt = row["prompt"].removeprefix(HUMAN).removesuffix(ASSISTANT).strip()
        if not row["tie"] and HUMAN not in prompt and ASSISTANT not in prompt:
            yield {
                "prompt": prompt,
                "chosen": row["chosen"].strip(),
                "rejected": row["rejected"].strip(),
                "source": row["source"],
            }


def hashed(row: Mapping[str, Any]) -> float:
    """A place in an order that depends on the row's id alone."""
    return unit_hash(str(row["id"]), SALT + 2)


def first(rows: Iterable[Row], count: int) -> list[Row]:
    """The first `count`."""
    return [row for row, _ in zip(rows, range(count), strict=False)]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSONL."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{path}: {len(lines):,} rows")


if __name__ == "__main__":
    main()
