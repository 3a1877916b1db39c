"""The matcher on the words that break naive ones, and on the disguises it must undo."""

import pytest

from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import Entry, Lexicon, load_lexicon
from curation.lexicon.matcher import Matcher


@pytest.fixture(scope="module")
def english() -> Matcher:
    return Matcher(load_lexicon("english"))


def found(matcher: Matcher, *texts: str) -> list[tuple[int, str, str, str]]:
    """(row, matched text, term, how) of every hit."""
    hits = matcher.find(TextBatch.of(texts))
    rows = zip(hits.row, hits.start, hits.end, hits.entry, hits.folded, hits.guarded, strict=True)
    return [
        (
            int(row),
            texts[row][start:end],
            matcher.lexicon.entries[entry].term,
            "guard" if guard else "folded" if folded else "exact",
        )
        for row, start, end, entry, folded, guard in rows
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe", "assess the classic cockpit", "Dickens, Essex and the shiitake", "raccoon tycoon", "specialist",
        "flagged", "Nigeria and Niger", "vandykebrown", "document", "**bold** a**b 3rd 2x", "who're", "(crap-table",
        "https://example.com/as-s/f4g", "glass half-full", "h e l l o", "", "niggardly", "a niggardly sum",
        "therapist in Penistone", "http://whore.example/faggot", "[the page](https://ass.example)", "www.ass.example",
        "cum_sum = np.cumsum(x)", "if ass_list or is_dick:", "Artificial_Limey", "A$AP Rocky", "c*t", "2*d*k", "b4 5pm",
    ],
)  # fmt: skip
def test_innocent_words_are_never_hits(english: Matcher, text: str) -> None:
    hits = [hit for hit in found(english, text) if hit[2] != "crap"]
    assert hits == []


@pytest.mark.parametrize(
    ("text", "matched", "term", "how"),
    [
        ("FAGGOTS!", "FAGGOTS", "faggot", "exact"),
        ("a nigger's word", "nigger", "nigger", "exact"),
        ("ｆａｇｇｏｔ", "ｆａｇｇｏｔ", "faggot", "exact"),
        ("camel-jockey", "camel-jockey", "camel jockey", "exact"),
        ("camel \n jockey", "camel \n jockey", "camel jockey", "exact"),
        ("n1gg3r", "n1gg3r", "nigger", "folded"),
        ("f.u.c.k off", "f.u.c.k", "fuck", "folded"),
        ("f u c k", "f u c k", "fuck", "folded"),
        ("what the f*ck", "f*ck", "fuck", "folded"),
        ("n****r", "n****r", "nigger", "folded"),
        ("fuuuuuck", "fuuuuuck", "fuck", "folded"),
        ("fаggоt in Cyrillic disguise", "fаggоt", "faggot", "folded"),
        ("fag\u200bgot", "fag\u200bgot", "faggot", "folded"),
        ("“b00bs”", "b00bs", "tits", "folded"),
        ("n1663r", "n1663r", "nigger", "folded"),
        ("n!gg@", "n!gg@", "nigga", "folded"),
        ("ɴɪɢɢᴇʀ", "ɴɪɢɢᴇʀ", "nigger", "folded"),
        ("k\u0336i\u0336k\u0336e\u0336", "k\u0336i\u0336k\u0336e\u0336", "kike", "folded"),
        ("ᶠᵘᶜᵏ", "ᶠᵘᶜᵏ", "fuck", "exact"),
        ("🅵🆄🅲🅺 it", "🅵🆄🅲🅺", "fuck", "exact"),
        ("_faggot_ he said", "faggot", "faggot", "exact"),
        ("kill_all of", "kill_all", "kill all", "exact"),
    ],
)
def test_a_term_is_found_with_its_code_points_whatever_its_disguise(
    english: Matcher, text: str, matched: str, term: str, how: str
) -> None:
    assert found(english, text) == [(0, matched, term, how)]


def test_offsets_are_code_points_of_each_own_text(english: Matcher) -> None:
    texts = ("😀 é kike", "", "日本 spic ü")
    assert found(english, *texts) == [(0, "kike", "kike", "exact"), (2, "spic", "spic", "exact")]


def test_a_guard_phrase_is_another_word_and_wins_over_the_term_in_it(english: Matcher) -> None:
    texts = ("spick & span", "my Maine coon", "Dyke Road", "Uncle Tom’s Cabin", "a chink in his armour", "Offa's Dyke")
    assert found(english, *texts) == [
        (0, "spick & span", "spic", "guard"),
        (1, "Maine coon", "coon", "guard"),
        (2, "Dyke Road", "dyke", "guard"),
        (3, "Uncle Tom’s Cabin", "uncle tom", "guard"),
        (4, "chink in his armour", "chink", "guard"),
        (5, "Offa's Dyke", "dyke", "guard"),
    ]


def test_a_masked_word_is_read_as_the_first_entry_of_the_lexicon_that_it_can_spell(english: Matcher) -> None:
    texts = ("f***s", "s****y", "t*rd", "c**t", "n****r")
    assert [(row, term, how) for row, _, term, how in found(english, *texts)] == [
        (0, "fuck", "folded"),  # not `faggot`, `feminazi`
        (1, "shit", "folded"),  # not `sheeny`
        (2, "crap", "folded"),  # not `retard`
        (3, "cunt", "folded"),
        (4, "nigger", "folded"),
    ]


def test_words_parted_by_a_slash_or_comma_are_disguised_one_by_one(english: Matcher) -> None:
    assert found(english, "n1gger/f4ggot,c00n") == [
        (0, "n1gger", "nigger", "folded"),
        (0, "f4ggot", "faggot", "folded"),
        (0, "c00n", "coon", "folded"),
    ]


def test_a_link_ends_where_markup_or_white_space_does(english: Matcher) -> None:
    assert found(english, "(https://ass.example/cock) cock www.cock.example cock") == [
        (0, "cock", "cock", "exact"),
        (0, "cock", "cock", "exact"),
    ]


def test_plain_word_lists_read_links_too() -> None:
    matcher = Matcher(load_lexicon("english"), fold_disguises=False)
    assert found(matcher, "http://cock.example/x") == [(0, "cock", "cock", "exact")]


def test_a_blank_line_ends_a_phrase(english: Matcher) -> None:
    assert found(english, "camel\n\njockey") == []


def test_the_longest_term_wins_and_hits_do_not_overlap() -> None:
    entries = (Entry(term="ab"), Entry(term="ab cd"), Entry(term="cd ef"))
    matcher = Matcher(Lexicon("t", "1", "", entries, "", load_lexicon("english").path))
    assert found(matcher, "ab cd ef") == [(0, "ab cd", "ab cd", "exact")]


def test_terms_of_unspaced_scripts_are_found_inside_running_text() -> None:
    entries = (Entry(term="バカ", lang="ja"), Entry(term="сука", lang="ru"))
    matcher = Matcher(Lexicon("t", "1", "", entries, "", load_lexicon("english").path), fold_disguises=False)
    assert found(matcher, "お前はバカだ", "Какая СУКА!", "сукатка") == [
        (0, "バカ", "バカ", "exact"),
        (1, "СУКА", "сука", "exact"),
    ]


def test_without_folding_only_written_forms_are_hits() -> None:
    matcher = Matcher(load_lexicon("english"), fold_disguises=False)
    assert found(matcher, "n1gger fuuuck fuck") == [(0, "fuck", "fuck", "exact")]
