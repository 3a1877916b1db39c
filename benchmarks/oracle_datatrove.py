"""Compares Headwater's rules with datatrove's own filters, row by row, on real documents.

datatrove lives in an environment of its own; this script runs there for its half and here for ours:

    python -m venv /tmp/dtvenv && /tmp/dtvenv/bin/pip install 'datatrove[processing]==0.10.1' spacy
    python benchmarks/oracle_datatrove.py --datatrove /tmp/dtvenv/bin/python FILE.jsonl.zst … --limit 2000

For each rule it prints how many documents both drop, only we drop, only datatrove drops. Words are compared twice:
`split`, with datatrove's tokeniser replaced by `str.split` (then every verdict must agree), and `spacy`, with its own
(then our setting `words: datatrove` is an approximation, and the difference is the price).
`--golden OUT.json` writes datatrove's numbers for the hand-written texts of tests/data/oracle_texts.json.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
TOKENISERS = ("split", "spacy")
TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path, help="JSONL files (.zst) with a field `text`")
    parser.add_argument("--datatrove", help="the Python that has datatrove")
    parser.add_argument("--limit", type=int, default=2000, help="documents of each file")
    parser.add_argument("--golden", type=Path, help="write datatrove's numbers for our own texts here and stop")
    parser.add_argument("--as-datatrove", choices=TOKENISERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_datatrove:
        texts = json.load(sys.stdin)
        json.dump([datatrove_numbers(text, arguments.as_datatrove) for text in texts], sys.stdout)
        return 0
    if arguments.golden:
        texts = json.loads((REPO / "tests/data/oracle_texts.json").read_text(encoding="utf-8"))
        golden = {tokeniser: ask(arguments.datatrove, texts, tokeniser) for tokeniser in TOKENISERS}
        arguments.golden.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
        return 0
    sys.path.insert(0, str(REPO))
    for path in arguments.files:
        texts = [text for text in read(path, arguments.limit) if text.split()]
        for tokeniser in TOKENISERS:
            print(f"\n{path.name}: {len(texts)} documents, words by {tokeniser}")
            compare(ask(arguments.datatrove, texts, tokeniser), headwater_numbers(texts, tokeniser))
    return 0


def read(path: Path, limit: int) -> Iterator[str]:
    import zstandard

    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(file)
        for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8")):
            if number == limit:
                return
            yield json.loads(line)["text"]


def ask(python: str, texts: list[str], tokeniser: str) -> list[dict[str, Any]]:
    """datatrove's numbers for `texts`, from its own environment."""
    command = [python, __file__, "--as-datatrove", tokeniser]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer


def datatrove_numbers(text: str, tokeniser: str) -> dict[str, Any]:
    """One text's numbers by datatrove's own functions, and whether each of its filters drops it, and why first."""
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.pipeline.filters import c4_filters, fineweb_quality_filter  # type: ignore[import-not-found]
    from datatrove.pipeline.filters import gopher_quality_filter as quality
    from datatrove.pipeline.filters import gopher_repetition_filter as repetition

    if tokeniser == "split":
        for module in (quality, repetition, fineweb_quality_filter):
            module.split_into_words = lambda text, language=None: text.split()
    words = repetition.split_into_words(text, "en")
    chars = len(text)
    numbers: dict[str, Any] = {"n_words": len(words)}
    rep = repetition.GopherRepetitionFilter()
    for name, parts in (
        ("line", rep._line_splitter.split(text)),
        ("paragraph", rep.paragraph_exp.split(text.strip())),
    ):
        duplicates, duplicate_chars = repetition.find_duplicates(parts)
        numbers[f"duplicate_{name}_fraction"] = duplicates / len(parts)
        numbers[f"duplicate_{name}_char_fraction"] = duplicate_chars / chars
    for n in TOP:
        grams = repetition.get_n_grams(words, n)
        numbers[f"top_{n}_gram_char_fraction"] = repetition.find_top_duplicate(grams) / chars if grams else 0.0
    for n in DUPLICATE:
        numbers[f"duplicate_{n}_gram_char_fraction"] = repetition.find_all_duplicate(words, n) / chars
    filters: dict[str, Callable[[Any], Any]] = {
        "gopher_repetition": rep.filter,
        "gopher_quality": quality.GopherQualityFilter().filter,
        "fineweb": fineweb_quality_filter.FineWebQualityFilter(char_duplicates_ratio=0.1).filter,
        "c4": c4_filters.C4QualityFilter(min_num_sentences=-1).filter,
        "c4_sentences": c4_filters.C4QualityFilter().filter,
    }
    for name, judge in filters.items():
        document = Document(text=text, id="0")
        verdict = judge(document)
        numbers[name] = "" if verdict is True else verdict[1]
        if name == "c4":
            numbers["c4_text"] = document.text if verdict is True else None
    return numbers


def headwater_numbers(texts: list[str], tokeniser: str) -> list[dict[str, Any]]:
    """The same numbers by Headwater, with all reasons of each filter."""
    import pyarrow as pa

    from curation.filters import FILTERS
    from curation.filters.base import DocumentBatch
    from curation.kernels.text_batch import TextBatch
    from curation.kernels.words import words
    from curation.redaction import Edit, redact

    batch = DocumentBatch(TextBatch.of(texts), pa.table({"url": pa.nulls(len(texts), pa.string())}))
    of = "whitespace" if tokeniser == "split" else "datatrove"
    chosen: dict[str, tuple[str, dict[str, Any]]] = {
        "gopher_repetition": ("gopher_repetition", {"words": of}),
        "gopher_quality": ("gopher_quality", {"words": of}),
        "fineweb": ("fineweb", {"words": of, "at_threshold": "datatrove"}),
        "c4": ("c4", {"end_marks": ".?!\"'", "min_words_per_line": 3, "min_sentences": None, "max_chars": None}),
        "c4_sentences": ("c4", {"end_marks": ".?!\"'", "min_words_per_line": 3, "min_sentences": 5, "max_chars": None}),
    }
    out: list[dict[str, Any]] = [{"n_words": int(n)} for n in words(batch.texts, of).doc_words[1:]]  # type: ignore[arg-type]
    for name, (registered, given) in chosen.items():
        entry = FILTERS.get(registered)
        settings = entry.settings_type(**given)
        columns = entry.measure(batch, settings)
        reasons: list[list[str]] = [[] for _ in texts]
        for finding in entry.judge({f"x.{k}": v for k, v in columns.items()}, settings, "x"):
            if finding.code not in ("x.bad_line", "x.citation"):
                for row in finding.rows.tolist():
                    reasons[row].append(finding.code.removeprefix("x."))
        for row, codes in enumerate(reasons):
            out[row][name] = codes
            if name == "gopher_repetition":
                out[row].update({key: column[row].as_py() for key, column in columns.items()})
            if name == "c4":
                spans = columns["bad_line_spans"][row].as_py() + columns["citation_spans"][row].as_py()
                edits = [Edit(span["start"], span["end"], "cut", span["label"]) for span in spans]
                cut = redact(texts[row], edits) if edits else texts[row]
                lines = (line.strip() for line in cut.splitlines())
                out[row]["c4_text"] = None if codes else "\n".join(line for line in lines if line).strip()
    return out


def compare(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    """Prints agreement of verdicts per filter and of numbers per signal."""
    for name in ("gopher_quality", "gopher_repetition", "fineweb", "c4", "c4_sentences"):
        pairs = [(bool(b[name]), bool(a[name])) for a, b in zip(theirs, ours, strict=True)]
        both, we, they = pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))
        agree = 1 - (we + they) / len(pairs)
        print(f"  {name:18} dropped by both {both:5}  only us {we:4}  only datatrove {they:4}  agreement {agree:.4f}")
        for a, b in zip(theirs, ours, strict=True):
            if bool(a[name]) != bool(b[name]) and "--verbose" in sys.argv:
                print("     ", a[name], b[name])
    texts = [(a["c4_text"], b["c4_text"]) for a, b in zip(theirs, ours, strict=True) if a["c4_text"] is not None]
    # datatrove leaves the space behind a citation mark that began a line.
    same = sum([line.strip() for line in a.split("\n")] == (b or "").split("\n") for a, b in texts)
    print(f"  text left by C4's line rules: the same in {same} of {len(texts)}")
    for key in [k for k in theirs[0] if k.endswith("_fraction")]:
        worst = max(abs(a[key] - b[key]) for a, b in zip(theirs, ours, strict=True))
        print(f"  {key:38} largest difference {worst:.2e}")


if __name__ == "__main__":
    sys.exit(main())
