"""`inspect`: which documents are shown, with which stretches marked, and that abuse is masked unless asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import CARRIED, DOCUMENTS_OF_RUN, SPAN, WORD, build_run

from curation.cli import main
from curation.finished_run import load_run
from curation.marked_text import GAP, Masker, Piece, Span, excerpt
from curation.run_duplicates import differences

MASKED = "b****"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("inspected"))


@pytest.fixture
def inspect(run: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> dict[str, Any]:
        assert main(["inspect", str(run), "--json", *arguments]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def ids(found: dict[str, Any]) -> set[str]:
    return {row["id"] for row in found["documents"]}


def test_what_is_not_kept_is_shown_by_default_and_in_the_curated_arm(inspect: Any) -> None:
    found = inspect()

    assert (found["arm"], found["found"]) == ("curated", 5)
    assert ids(found) == {"copy", "near", "use", "mail", "unscored"}


def test_a_removed_document_comes_with_reasons_mentions_and_masked_text(inspect: Any) -> None:
    (row,) = inspect("--reason", "context.use")["documents"]
    start = SPAN["use"]

    assert row == {
        "id": "use", "verdict": "drop", "source": "forum", "url": None,
        "reasons": [{"code": "context.use", "signal": "context.max_use", "value": 0.93, "threshold": 0.5,
                     "start": start, "end": start + len(WORD)}],
        "mentions": [{"start": start, "end": start + len(WORD), "term": MASKED, "category": "insult", "target": None,
                      "role": "use", "score": 0.5, "cue": None, "quoted": None, "framed": None,
                      "stance": None}],
        "elsewhere": {"blocklist": ["blocklist.listed_word"]},
        "text": DOCUMENTS_OF_RUN["use"][2].replace(WORD, MASKED),
    }  # fmt: skip


def test_a_redacted_document_shows_both_texts_and_personal_data_is_masked(inspect: Any) -> None:
    (row,) = inspect("--verdict", "redact")["documents"]

    assert row["carried"] == CARRIED["mail"]
    assert "jane.roe@example.org" not in row["text"]
    assert "j***.***@*******.***" in row["text"]


def test_unmask_shows_the_text_as_it_is(inspect: Any) -> None:
    (row,) = inspect("--reason", "context", "--verdict", "drop", "--unmask")["documents"]

    assert row["text"] == DOCUMENTS_OF_RUN["use"][2]
    assert row["mentions"][0]["term"] == WORD


def test_a_filter_name_stands_for_all_its_codes(inspect: Any) -> None:
    assert ids(inspect("--reason", "context")) == {"use", "unscored"}
    assert ids(inspect("--reason", "dedup")) == {"copy", "near"}


def test_kept_though_flagged_is_what_a_mention_or_another_arm_speaks_against(inspect: Any) -> None:
    found = inspect("--kept-though-flagged")

    assert [(row["id"], row["verdict"], row["elsewhere"]) for row in found["documents"]] == [
        ("mention", "keep", {"blocklist": ["blocklist.listed_word"]})
    ]


def test_another_arm_can_be_asked_about(inspect: Any) -> None:
    assert ids(inspect("--arm", "blocklist", "--reason", "blocklist.listed_word")) == {"use", "mention"}


def test_fewer_documents_are_always_the_same_ones(inspect: Any) -> None:
    first, again = inspect("-n", "2"), inspect("-n", "2")

    assert first == again
    assert len(first["documents"]) == 2
    assert ids(first) <= ids(inspect())


def test_duplicates_stand_beside_what_they_copy(inspect: Any) -> None:
    rows = {row["id"]: row for row in inspect("--duplicates")["duplicates"]}

    assert rows["near"] == {
        "id": "near", "duplicate_of": "plain", "kind": "near", "jaccard": 0.85, "cluster_size": 3,
        "text": DOCUMENTS_OF_RUN["near"][2], "other_text": DOCUMENTS_OF_RUN["plain"][2],
    }  # fmt: skip
    assert rows["copy"]["text"] == rows["copy"]["other_text"]


def test_the_terminal_shows_marked_stretches_and_no_listed_word(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run), "--reason", "context.use"]) == 0
    printed = capsys.readouterr().out

    assert printed.splitlines()[0] == "1 documents in arm `curated`"
    assert f"you ⟦{MASKED}⟧, nobody" in printed
    assert WORD not in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--arm", "curatd"], "unknown-arm"),
        (["--reason", "contxt.use"], "unknown-reason"),
        (["-n", "0"], "bad-value"),
        (["--duplicates", "--reason", "dedup"], "contradiction"),
        (["--kept-though-flagged", "--verdict", "drop"], "contradiction"),
    ],
)
def test_a_wrong_question_is_refused(
    run: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(run), *arguments]) == 2
    assert f"error[{code}]" in capsys.readouterr().err


def test_verdicts_are_read_in_row_order_across_row_groups(run: Path) -> None:
    verdicts = load_run(str(run)).verdicts(0)

    assert {arm: codes.tolist() for arm, codes in verdicts.items()} == {
        "raw": [0, 0, 0, 0, 0],
        "blocklist": [0, 2, 2, 2, 2],
        "curated": [0, 2, 2, 2, 0],
    }


def test_an_excerpt_shows_words_around_spans_and_gaps_where_text_is_left_out() -> None:
    text = "one two three four five six seven eight nine ten"
    pieces = excerpt(text, [Span(14, 18, "a"), Span(40, 44, "b")], around=6)

    assert (
        "".join(f"[{piece.text}]" if piece.labels else piece.text for piece in pieces)
        == "…three [four] five…eight [nine] ten"
    )
    assert [piece.text for piece in pieces if piece.labels] == ["four", "nine"]


def test_overlapping_spans_carry_both_labels() -> None:
    assert excerpt("abcdef", [Span(0, 4, "x"), Span(2, 6, "y")]) == [
        Piece("ab", ("x",)),
        Piece("cd", ("x", "y")),
        Piece("ef", ("y",)),
    ]


def test_a_text_without_spans_is_shown_from_its_beginning() -> None:
    assert excerpt("short", []) == [Piece("short")]
    assert excerpt("word " * 100, [])[-1] == Piece(GAP, is_gap=True)


def test_masking_keeps_every_offset() -> None:
    text = f"Ünïcode 🙂 and a {WORD} and more {WORD.upper()}ES"
    masked = Masker().mask(text)

    assert len(masked) == len(text)
    assert masked == text.replace(WORD, MASKED).replace(f"{WORD.upper()}ES", "B" + "*" * 6)


def test_a_hateful_passage_is_shown_with_its_terms_masked_and_a_used_term_is_masked_unlisted_or_not() -> None:
    text = f"They are like a {WORD} here, the blorks. Nobody wants them."
    at = text.index("blorks")
    spans = [Span(0, at + 6, "context.hateful"), Span(at, at + 6, "context.use")]
    ruleset = {"rules": [{"filter": "context", "as": "context"}]}

    (shown,) = Masker(ruleset).mask_all([text], [spans])

    assert shown == f"They are like a {MASKED} here, the b*****. Nobody wants them."


def test_differences_mark_the_words_that_only_one_text_has() -> None:
    mine, theirs = differences("a b c d", "a x c d e")

    assert mine == [Span(2, 3, "only here")]
    assert theirs == [Span(2, 3, "only here"), Span(8, 9, "only here")]
