"""Lexicon files: what ships, the three formats, and every mistake named."""

from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.lexicon.entries import Entry, inflections, load_lexicon


@pytest.mark.parametrize("name", ["english", "ldnoobw", "cues"])
def test_shipped_lexicons_load_and_name_version_and_licence(name: str) -> None:
    lexicon = load_lexicon(name)
    assert lexicon.name == name
    assert lexicon.version != "0"
    assert lexicon.licence != "not stated"
    assert len(lexicon.sha256) == 64
    assert lexicon.resource() == {
        "name": f"lexicon/{name}", "version": lexicon.version, "sha256": lexicon.sha256, "kind": "lexicon",
    }  # fmt: skip


def test_the_blocklist_has_27_languages_and_can_be_narrowed() -> None:
    lexicon = load_lexicon("ldnoobw")
    assert len({entry.lang for entry in lexicon.entries}) == 27
    assert {entry.lang for entry in lexicon.only(["en"]).entries} == {"en"}


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("# licence: mine\n# term\tvariants\tcategory\tseverity\nfoo\tfoz|fooz\tslur\t2\n")
    (tmp_path / "a.jsonl").write_text(
        '{"term": "foo", "variants": ["foz", "fooz"], "category": "slur", "severity": 2}\n'
    )
    (tmp_path / "a.yaml").write_text(
        "licence: mine\nentries:\n  - {term: foo, variants: [foz, fooz], category: slur, severity: 2}\n"
    )
    expected = (Entry(term="foo", variants=("foz", "fooz"), category="slur", severity=2),)
    assert [load_lexicon(tmp_path / f"a.{kind}").entries for kind in ("tsv", "jsonl", "yaml")] == [expected] * 3


def test_every_bad_row_is_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"term": "a", "categry": "slur"}\n{"term": "b", "severity": 9}\n{"variants": []}\n')
    with pytest.raises(ConfigError) as caught:
        load_lexicon(path)
    assert [problem.code for problem in caught.value.problems] == ["unknown-key", "bad-value", "missing-key"]
    assert "did you mean `category`?" in str(caught.value)


def test_a_missing_or_empty_lexicon_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-lexicon"):
        load_lexicon(tmp_path / "none.tsv")
    (tmp_path / "empty.tsv").write_text("# term\n")
    with pytest.raises(ConfigError, match="empty-lexicon"):
        load_lexicon(tmp_path / "empty.tsv")


def test_inflections_follow_english_spelling() -> None:
    assert inflections("darky", "n") == ("darkies",)
    assert inflections("kike", "n") == ("kikes",)
    assert inflections("dyke", "v") == ("dykes", "dyked", "dyking", "dyker")
    assert inflections("wop", "") == ()
