"""The audit: groups by hand-written texts, ratios by hand, intervals against what theory says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_run import build_run

import curation.audit
from curation.audit import MIN_GROUP, TOPIC, YARDSTICK, Audit, AuditRow, audit
from curation.audit_table import table_text
from curation.bootstrap import interval, poisson_weights, ratio_of, resampled_counts, resampled_sums
from curation.cli import main
from curation.dialect import AAE, TABLE, WAE, dialect_groups, topic_shares
from curation.finished_run import load_run
from curation.identity_terms import identities, identity_table
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.strata import adjusted_ratio, strata

AAE_TEXT = "she finna go to the crib wit her fam and we bout to pull up cuz they been cookin all day"
WAE_TEXT = "my sister and I went hiking in the mountains and I am so excited to see the new season this weekend"


def named(text: str) -> set[str]:
    found = identities(terms(TextBatch.of([text])))[0]
    return {
        f"{category}: {group}" for (category, group, _), hit in zip(identity_table().groups, found, strict=True) if hit
    }


def test_words_of_each_dialect_move_the_shares_their_way() -> None:
    shares, counts = topic_shares(TextBatch.of([AAE_TEXT, WAE_TEXT, ""]))

    assert shares[:2].argmax(axis=1).tolist() == [AAE, WAE]
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares[2].tolist() == [0.25] * 4
    assert counts[2] == 0
    assert counts[:2].min() >= 15


def test_a_text_in_another_language_belongs_to_no_dialect() -> None:
    text = "Los panaderos del centro escriben en un cuaderno todo lo que cambia, si hay que creer al cronista."
    shares, counts = topic_shares(TextBatch.of([text]))
    groups = dialect_groups(shares, counts)

    assert counts.tolist() == [0]
    assert not (groups.aae | groups.aae_leaning | groups.wae).any()


def test_the_leaning_group_is_the_surest_twentieth_and_never_the_reference() -> None:
    texts = [WAE_TEXT] * 95 + [f"{WAE_TEXT} {AAE_TEXT}"] * 5
    groups = dialect_groups(*topic_shares(TextBatch.of(texts)))

    assert np.flatnonzero(groups.aae_leaning).tolist() == [95, 96, 97, 98, 99]
    assert not (groups.aae_leaning & groups.wae).any()


def test_the_dialect_table_holds_no_listed_term_of_abuse() -> None:
    words = [line.split("\t")[0] for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    batch = TextBatch.of(words)

    assert len(words) == 12_000
    assert TABLE.stat().st_size <= 300_000
    assert len(Matcher(load_lexicon("english")).find(batch)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Muslim woman spoke.", {"religion: muslim", "gender: women"}),
        ("The white house has a black door.", set()),
        ("White people and Black women", {"race: white", "race: black", "gender: women"}),
        ("He is straight, man.", {"orientation: heterosexual", "gender: men"}),  # punctuation is not seen: a known slip
        ("gayness is not the listed word", set()),
        ("LGBTQ people, gay men", {"orientation: queer", "orientation: gay", "gender: men"}),
    ],
)
def test_identity_terms_are_whole_words_and_pairs(text: str, expected: set[str]) -> None:
    assert named(text) == expected


def test_pairs_do_not_reach_over_the_end_of_a_document() -> None:
    found = identities(terms(TextBatch.of(["all white", "people here"])))

    assert not found.any()


def test_every_category_names_at_most_one_reference() -> None:
    references = [category for category, _, is_reference in identity_table().groups if is_reference]

    assert sorted(references) == sorted(set(references))
    assert {category for category, _, _ in identity_table().groups} == {
        "gender", "race", "religion", "orientation", "disability", "nationality",
    }  # fmt: skip


def test_weights_are_poisson_of_mean_one() -> None:
    weights = poisson_weights(np.random.Generator(np.random.PCG64(1)), (1000, 1000))

    assert abs(weights.mean() - 1) < 0.005
    assert abs(weights.var() - 1) < 0.01
    assert abs((weights == 0).mean() - np.exp(-1)) < 0.002


def test_resampled_sums_have_the_mean_and_spread_of_counts() -> None:
    columns = np.zeros((10_000, 2), np.float32)
    columns[:400, 0] = 1
    columns[:, 1] = 1
    sums = resampled_sums(columns, seed=7)

    assert np.allclose(sums.mean(axis=0), [400, 10_000], rtol=0.01)
    assert np.allclose(sums.std(axis=0), [20, 100], rtol=0.1)  # of Poisson sums: the root of the count
    assert np.allclose(resampled_counts(np.array([400.0]), seed=7).std(), 20, rtol=0.1)


def test_the_same_seed_gives_the_same_draws() -> None:
    columns = np.ones((5000, 1), np.float32)

    assert (resampled_sums(columns, 3) == resampled_sums(columns, 3)).all()
    assert (resampled_sums(columns, 3) != resampled_sums(columns, 4)).any()


def test_the_interval_covers_the_log_normal_one() -> None:
    drawn = resampled_counts(np.array([100.0, 900.0, 50.0, 950.0]), seed=1)
    low, high = interval(drawn[:, 0], drawn[:, 0] + drawn[:, 1], drawn[:, 2], drawn[:, 2] + drawn[:, 3])
    # Katz et al. 1978: log ratio of two rates has variance 1/a - 1/n + 1/b - 1/m.
    spread = 1.96 * np.sqrt(1 / 100 - 1 / 1000 + 1 / 50 - 1 / 1000)

    assert low == pytest.approx(2 * np.exp(-spread), rel=0.08)
    assert high == pytest.approx(2 * np.exp(spread), rel=0.08)


def test_a_ratio_without_removals_in_the_reference_has_no_number() -> None:
    zeros, ones = np.zeros(10), np.ones(10)

    assert ratio_of(3, 10, 0, 10) is None
    assert ratio_of(0, 10, 5, 10) == 0.0
    assert interval(ones, ones, zeros, ones) == (None, None)


def test_a_run_with_too_few_documents_compares_nothing(tmp_path: Path) -> None:
    found = audit(load_run(str(build_run(tmp_path))))

    assert (found.rows, found.documents, found.sampled) == ([], 6, 6)  # two of eight are duplicates
    assert "gender: women" in found.too_small


def test_the_verb_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(build_run(tmp_path))

    assert main(["audit", run]) == 0
    assert "no arm removes anything" in capsys.readouterr().out
    assert main(["audit", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []
    assert main(["audit", run, "--documents", "0"]) == 2


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small run, with groups of two documents large enough to compare."""
    monkeypatch.setattr(curation.audit, "MIN_GROUP", 2)
    return build_run(tmp_path)


def test_sources_are_compared_with_all_others(counted: Path) -> None:
    rows = [row for row in audit(load_run(str(counted))).rows if row.kind == "source" and row.arm == "curated"]

    # Without the two duplicates: forum loses `use` of two, web loses `unscored` of four.
    assert [(row.group, row.removed, row.documents, row.reference, row.ratio) for row in rows] == [
        ("forum", 1, 2, "all other sources", 2.0),
        ("web", 1, 4, "all other sources", 0.5),
    ]


def test_each_filter_of_an_arm_has_rows_of_its_own_and_each_reason_when_asked(counted: Path) -> None:
    run = load_run(str(counted))
    sample = curation.audit._sample(
        run, {s: run.verdicts(s) for s in range(2)}, {s: run.duplicate_rows(s) for s in range(2)}, 10, 10, "filter"
    )
    by_reason = curation.audit._sample(
        run, {s: run.verdicts(s) for s in range(2)}, {s: run.duplicate_rows(s) for s in range(2)}, 10, 10, "reason"
    )

    # The arm `blocklist` has one filter beside deduplication, so its rows would say the same twice.
    assert {unit: int(mask.sum()) for unit, mask in sample.removed.items()} == {
        ("raw", ""): 0, ("blocklist", ""): 2, ("curated", ""): 2, ("curated", "context"): 2,
    }  # fmt: skip
    assert {unit[1]: int(mask.sum()) for unit, mask in by_reason.removed.items() if unit[1]} == {
        "blocklist.listed_word": 2, "context.failed": 1, "context.use": 1,
    }  # fmt: skip


def test_the_word_list_is_the_yardstick_of_a_run_that_does_not_apply_it(counted: Path) -> None:
    run = load_run(str(counted))
    assert not any(arm == YARDSTICK for arm in {row.arm for row in audit(run).rows})
    del run.manifest["arms"]["blocklist"]
    sample = curation.audit._sample(
        run, {s: run.verdicts(s) for s in range(2)}, {s: run.duplicate_rows(s) for s in range(2)}, 10, 10, "filter"
    )
    texts = sample.texts.to_pylist()

    assert [texts[at].split()[0] for at in np.flatnonzero(sample.removed[YARDSTICK, ""])] == ["Go", "The"]


def test_a_topic_is_read_from_the_metadata_whatever_stands_around_it() -> None:
    metadata = ['{"a":1,"topic_id":12,"w":0.1}', '{"topic":"Food & Dining"}', '{"topics":3}', None]
    found = pc.struct_field(pc.extract_regex(pa.array(metadata), TOPIC), "topic")

    assert found.to_pylist() == ["12", "Food & Dining", None, None]


def test_the_adjusted_ratio_compares_documents_of_one_source_and_length() -> None:
    # Two strata. The reference removes 10 % of the short and 40 % of the long; the group is short (80) and long (20),
    # so the reference's rates would remove 8 + 8 of it; 24 were removed: 1.5. The plain ratio is 0.24 / 0.34 = 0.71.
    stratum = np.repeat([0, 1, 0, 1], [80, 20, 200, 800])
    group = np.repeat([True, False], [100, 1000])
    removed = np.zeros(1100, bool)
    for first, count in ((0, 12), (80, 12), (100, 20), (300, 320)):
        removed[first : first + count] = True
    found = adjusted_ratio(group, ~group, removed, stratum, seed=1)

    assert found.ratio == pytest.approx(1.5)
    assert found.low is not None
    assert found.high is not None
    assert 0.9 < found.low < 1.2 < 1.8 < found.high < 2.4


def test_documents_without_any_reference_like_them_are_left_out_of_the_adjusted_ratio() -> None:
    stratum = np.array([0, 0, 1, 1, 0, 0])
    group = np.array([1, 1, 1, 1, 0, 0], bool)
    removed = np.array([1, 0, 1, 1, 1, 1], bool)

    assert adjusted_ratio(group, ~group, removed, stratum, seed=1).ratio == pytest.approx(0.5)
    assert adjusted_ratio(group, ~group, np.zeros(6, bool), stratum, seed=1).ratio is None


def test_strata_are_of_source_and_length() -> None:
    found = strata(np.array([0, 0, 0, 1]), np.array([10, 63, 64, 10]))

    assert found[0] == found[1]
    assert len({*found.tolist()}) == 3


def test_a_group_of_which_nothing_was_removed_has_an_upper_bound() -> None:
    row = curation.audit._row(("a", ""), ("source", "rest"), "g", (0, 100), (50, 1000), 0.0, 0.0, 0.0)

    assert (row.low, row.high) == (0.0, pytest.approx(3.689 / 100 / 0.05))


def test_the_table_names_rates_reference_and_interval() -> None:
    row = AuditRow("curated", "identity: race", "romani", "white", 200, 30, 400, 20, 3.0, 1.8, 5.1)
    of_filter = AuditRow("curated", "source", "web", "rest", 9, 1, 8, 2, 0.4, None, 2.0, "context", 0.5, 0.1, 1.0)
    found = Audit([row, of_filter], 10_000, 10_000, ["race: asian"])

    assert table_text(found).splitlines() == [
        "10,000 documents without duplicates; dialect and identity by a sample of 10,000",
        f"1 groups of fewer than {MIN_GROUP} documents are left out (--json names them)",
        "adjusted: against reference documents of the same source and length; intervals are 95 % bootstrap",
        "",
        "arm `curated`",
        "  group         documents  removed    rate  reference   rate  ratio      interval  adjusted  interval",
        "  race: romani        200       30  15.00%  white      5.00%   3.00  1.80 to 5.10         –    – to –",
        "",
        "arm `curated`, `context`",
        "  group        documents  removed    rate  reference    rate  ratio   interval  adjusted      interval",
        "  source: web          9        1  11.11%  rest       25.00%   0.40  – to 2.00      0.50  0.10 to 1.00",
    ]
