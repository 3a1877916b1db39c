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


def rows_of(tmp_path: Path, name: str, text: str) -> list[tuple[str, str | None]]:
    """(code, place without the folder) of every problem of a lexicon file."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        load_lexicon(path)
    return [(p.code, p.where and p.where.replace(f"{tmp_path}/", "")) for p in caught.value.problems]


def test_every_bad_row_of_a_tsv_is_named_by_its_line(tmp_path: Path) -> None:
    text = "# term\tcategory\tseverity\na\tslur\t1\nb\tslur\nc\tslurr\t1\n\nd\tslur\thigh\n--\tslur\t1\n"
    assert rows_of(tmp_path, "l.tsv", text) == [
        ("bad-lexicon", "l.tsv:3"),
        ("bad-value", "l.tsv:4: category (got 'slurr')"),
        ("bad-value", "l.tsv:6: severity (got 'high')"),
        ("bad-value", "l.tsv:7: term (got '--')"),
    ]


def test_a_wrong_column_is_named_once_and_a_missing_header_at_the_first_row(tmp_path: Path) -> None:
    text = "# lexicon: l\n# term\tcategry\na\tslur\nb\tslur\n"
    assert rows_of(tmp_path, "l.tsv", text) == [("unknown-key", "l.tsv:2")]
    assert rows_of(tmp_path, "m.tsv", "# lexicon: m\n\na\tslur\n") == [("bad-lexicon", "m.tsv:3")]


def test_every_bad_row_of_jsonl_and_yaml_is_named_by_its_line(tmp_path: Path) -> None:
    text = '{"term": "a"}\n{"term": \n["b"]\n{"term": "c", "in_group": "yes"}\n'
    assert rows_of(tmp_path, "l.jsonl", text) == [
        ("bad-lexicon", "l.jsonl:2"),
        ("bad-lexicon", "l.jsonl:3"),
        ("bad-value", "l.jsonl:4: in_group (got 'yes')"),
    ]
    text = "licence: mine\nentries:\n  - {term: a}\n  - term: b\n    severity: 7\n  - c\n"
    assert rows_of(tmp_path, "l.yaml", text) == [
        ("bad-lexicon", "l.yaml:6"),
        ("bad-value", "l.yaml:4: severity (got 7)"),
    ]
    assert rows_of(tmp_path, "m.yaml", "- {term: a}\n") == [("bad-lexicon", "m.yaml")]


def test_a_file_from_windows_reads_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "w.tsv"
    path.write_bytes(b"\xef\xbb\xbf# lexicon: w\r\n# term\tcategory\tin_group\r\nfoo\tslur\tyes\r\n")
    lexicon = load_lexicon(path)
    assert (lexicon.name, lexicon.entries) == ("w", (Entry(term="foo", category="slur", in_group=True),))


def test_every_english_entry_says_where_it_is_from_and_under_which_licence() -> None:
    licence_of = {"own": "Apache-2.0", "surge_profanity": "MIT", "davidson_ngrams": "MIT", "oewn": "CC-BY-4.0"}
    for entry in load_lexicon("english").entries:
        assert entry.source, entry.term
        assert set(entry.licence) == {licence_of[source] for source in entry.source}, entry.term


def test_every_english_slur_names_its_target_and_every_guard_phrase_holds_a_form_of_its_term() -> None:
    def spaced(form: str) -> str:
        return f" {form.replace('-', ' ')} "

    for entry in load_lexicon("english").entries:
        assert entry.target or entry.category != "slur", entry.term
        for phrase in entry.guard_phrases:
            words = spaced(phrase.replace("'s ", " 's ").replace("'n'", " 'n' ").replace("'n ", " 'n ") + " ")
            assert any(spaced(form) in words for form in entry.forms()), (entry.term, phrase)


def test_no_form_of_the_english_lexicon_belongs_to_two_entries() -> None:
    owners: dict[str, str] = {}
    for entry in load_lexicon("english").entries:
        for form in entry.forms():
            assert owners.setdefault(form, entry.term) == entry.term, form


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
