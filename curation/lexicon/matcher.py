"""Lexicon + texts → hits: which term stands where. In: `TextBatch`. Out: `Hits`. Called by the classifiers and filters.

1. Every form of every entry is folded (lower case, compatibility forms) and put into one trie.
2. A compiled scan walks the trie from every word start (`kernel.scan`).
3. Tokens that look disguised (leet, separators inside, stretched letters, look-alikes) are spelled out and must equal
   a term *as a whole*: that is what keeps "Scunthorpe", "assess" and "spick and span" whole.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curation.kernels.text_batch import TextBatch
from curation.kernels.unicode_tables import MARK, SINGLE, SPACE, WORD, classes, lower
from curation.lexicon import kernel
from curation.lexicon.entries import Entry, Lexicon

I32 = npt.NDArray[np.int32]
Pattern = tuple[str, int, bool]  # written form, index of the entry, whether it is a guard phrase

POINTS = 0x110000
# Compatibility blocks whose NFKC form is one character and has not changed since Unicode 6.0: enclosed letters,
# full-width forms, mathematical alphanumerics. Explicit, so that every Python gives the same table.
COMPATIBLE = (
    (0x02B0, 0x02B8), (0x1D2C, 0x1D6A), (0x1D9B, 0x1DBF), (0x2070, 0x209C), (0x2460, 0x24FF), (0xFF01, 0xFF5E),
    (0x1D400, 0x1D7FF), (0x1F130, 0x1F149),
)  # fmt: skip
# Alphabets of A to Z that have no compatibility form: negative circled and squared letters, regional indicators.
ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)
# Letters of other scripts that look like a Latin one (Unicode TR39 confusables, the single-letter part we need).
LOOK_ALIKE = {
    **dict(zip("аеорсухіјѕԁгкмтвн", "aeopcyxijsdrkmtbh", strict=True)),
    **dict(zip("αεικνορτυχωβγη", "aeiknoptuxwbyn", strict=True)),
    **dict(zip("ıłøđħŧɡɑⅼⅰ", "ilodhtgali", strict=True)),
    **dict(zip("ռօսցհ", "nough", strict=True)),
    **dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz", strict=True)),
}
LEET = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "bg", "7": "t", "8": "b", "9": "g",
    "@": "a", "$": "s", "!": "i", "+": "t", "|": "il", "€": "e", "£": "l", "¢": "c",
}  # fmt: skip
HIDDEN = ".-_·~^\u00ad\u200b\u200c\u200d\u2060\ufeff"  # separators that a disguised word may carry inside
# Marks that print over a letter or not at all: combining marks, direction marks, variation selectors.
HIDDEN_RANGES = ((0x0300, 0x036F), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069), (0xFE00, 0xFE0F))
WILD = "*#%"
HARD = '/\\=<>{}[]:;"?&'  # a token with one of these is a link, markup or code, and is not unfolded
MIN_DISGUISED = 4  # letters; shorter terms are unfolded only when they demean and nothing else (severity 3)
SMALL = 0x2100  # leet and kinds are looked up for code points below this


@dataclass(frozen=True)
class Hits:
    """Hits of a batch in text order: parallel int32 arrays; offsets are code points of the original text."""

    row: I32
    start: I32
    end: I32
    entry: I32  # index into the lexicon's entries
    folded: npt.NDArray[np.bool_]  # found only after undoing a disguise
    guarded: npt.NDArray[np.bool_]  # the hit is one of the entry's guard phrases: another word, not the term

    def __len__(self) -> int:
        return len(self.row)

    def where(self, mask: npt.NDArray[np.bool_]) -> Hits:
        """The hits for which `mask` is true."""
        return Hits(
            self.row[mask], self.start[mask], self.end[mask], self.entry[mask], self.folded[mask], self.guarded[mask]
        )

    def bounds(self, rows: int) -> npt.NDArray[np.int64]:
        """bounds[i]:bounds[i + 1] are the hits of row i; shape (rows + 1,)."""
        return np.searchsorted(self.row, np.arange(rows + 1)).astype(np.int64)


class Matcher:
    """The compiled form of a lexicon."""

    def __init__(self, lexicon: Lexicon, fold_disguises: bool = True) -> None:
        self.lexicon = lexicon
        self.fold_disguises = fold_disguises
        self._compile(_patterns(lexicon.entries), lexicon.entries)

    def _compile(self, patterns: Sequence[Pattern], entries: Sequence[Entry]) -> None:
        fold = _folding()
        alphabet = {chr(97 + k): kernel.FIRST_LETTER + k for k in range(26)}
        edges: dict[tuple[int, int], int] = {}
        terminal = [-1]
        owners: list[int] = []
        rank: list[int] = []
        guards: list[bool] = []
        for form, index, guard in patterns:
            state = 0
            for symbol in _symbols(form, fold, alphabet):
                state = edges.setdefault((state, symbol), len(terminal))
                if state == len(terminal):
                    terminal.append(-1)
            if terminal[state] < 0:  # the first entry that claims a form keeps it
                terminal[state] = len(owners)
                owners.append(index)
                guards.append(guard)
                rank.append(index if not guard and _may_be_disguised(form, entries[index]) else -1)
        self._owners = np.array(owners, np.int32)
        self._guards = np.array(guards, np.bool_)
        self._rank = np.array(rank, np.int32)  # of a disguised form: its entry's place in the lexicon, else -1
        self._terminal = np.array(terminal, np.int32)
        self._keys, self._values = _hashed(edges)
        self._symbols = np.zeros(POINTS, np.int32)
        by_folded = np.zeros(POINTS, np.int32)
        for char, symbol in alphabet.items():
            by_folded[ord(char)] = symbol
        self._symbols[:] = by_folded[fold]
        separators = (classes() & SPACE).astype(bool)
        separators[[ord("-"), ord("_"), 0x2010, 0x2011]] = True
        self._symbols[separators] = kernel.SEP
        self._roots = np.full(max(alphabet.values()) + 1, -1, np.int32)
        for (state, symbol), after in edges.items():
            if state == 0:
                self._roots[symbol] = after
        self._pairs = np.zeros((len(self._roots), len(self._roots)), np.bool_)
        first = {after: symbol for (state, symbol), after in edges.items() if state == 0}
        for state, symbol in edges:
            if state in first:
                self._pairs[first[state], symbol] = True
        self._looks, self._leet, self._kinds = _disguise_tables(fold)
        self._traits = _traits(self._looks, self._leet, self._kinds)

    def find(self, texts: TextBatch) -> Hits:
        """All terms of `texts`, leftmost-longest, without overlap."""
        hits = kernel.scan(
            texts.data, texts.offsets, self._symbols, classes(), self._traits, self._roots, self._pairs, self._keys,
            self._values, self._terminal, self._looks, self._leet, self._kinds, self._rank, self.fold_disguises,
        )  # fmt: skip
        return Hits(
            hits[:, 0].copy(),
            hits[:, 1].copy(),
            hits[:, 2].copy(),
            self._owners[hits[:, 3]],
            hits[:, 4] == kernel.FOLDED,
            self._guards[hits[:, 3]],
        )


def _patterns(entries: Sequence[Entry]) -> list[Pattern]:
    """Every form and every guard phrase, guard phrases first: where both are written alike the harmless one wins."""
    guards = sorted({(phrase, index, True) for index, entry in enumerate(entries) for phrase in entry.guard_phrases})
    return guards + sorted({(form, index, False) for index, entry in enumerate(entries) for form in entry.forms()})


def _may_be_disguised(form: str, entry: Entry) -> bool:
    letters = sum(char.isalpha() for char in form)
    return " " not in form and (letters >= MIN_DISGUISED or (letters == 3 and entry.severity >= 3))


def _symbols(form: str, fold: I32, alphabet: dict[str, int]) -> list[int]:
    """`form` as trie symbols; unseen characters join the alphabet."""
    result: list[int] = []
    for char in form:
        if char.isspace() or char in "-_":
            if result and result[-1] != kernel.SEP:
                result.append(kernel.SEP)
            continue
        folded = chr(int(fold[ord(char)]))
        result.append(alphabet.setdefault(folded, kernel.LAST_LETTER + 1 + len(alphabet) - 26))
    return result[:-1] if result and result[-1] == kernel.SEP else result


def _hashed(edges: dict[tuple[int, int], int]) -> tuple[npt.NDArray[np.int64], I32]:
    """Open-addressed table of the trie's edges, a quarter full; the probe order of `kernel._child`."""
    size = 1 << max(4, (4 * len(edges)).bit_length())
    keys = np.full(size, -1, np.int64)
    values = np.zeros(size, np.int32)
    for (state, symbol), after in edges.items():
        key = (state << 20) | symbol
        slot = ((key * kernel.MIX) % (1 << 64) >> 40) & (size - 1)
        while keys[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        keys[slot], values[slot] = key, after
    return keys, values


@lru_cache(maxsize=1)
def _folding() -> I32:
    """Code point → lower-case, compatibility-folded code point, shape (0x110000,)."""
    table = lower().copy()
    for first, last in COMPATIBLE:
        for point in range(first, last + 1):
            plain = unicodedata.normalize("NFKC", chr(point))
            if len(plain) == 1:
                table[point] = lower()[ord(plain)]
    for first in ALPHABETS:
        table[first : first + 26] = np.arange(ord("a"), ord("z") + 1)
    table[0x2019] = ord("'")
    return table


def _traits(looks: I32, leet: I32, kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One byte a code point for the scan: space, plain word character, sign of a disguise, mark.

    Characters of scripts without spaces are not T_WORD, so that a term may start at each of them; an underscore
    separates.
    """
    bits = classes()
    traits = np.zeros(POINTS, np.uint8)
    word = (bits & WORD).astype(bool) & ~(bits & SINGLE).astype(bool)
    word[ord("_")] = False
    traits[word] |= kernel.T_WORD
    traits[(bits & SPACE).astype(bool)] |= kernel.T_SPACE
    traits[(bits & MARK).astype(bool)] |= kernel.T_MARK
    odd = np.zeros(POINTS, bool)
    odd[: len(kinds)] = (kinds == kernel.HIDDEN) | (kinds == kernel.WILD)
    odd[: len(leet)] |= leet[:, 0] != kernel.NONE
    odd[0x80:] |= looks[0x80:] != kernel.NONE
    traits[odd] |= kernel.T_ODD
    return traits


def _disguise_tables(fold: I32) -> tuple[I32, I32, npt.NDArray[np.uint8]]:
    """Look-alike letter symbol per code point; the two leet readings and the kind of the small code points."""
    looks = np.zeros(POINTS, np.int32)
    latin = (fold >= ord("a")) & (fold <= ord("z"))
    looks[latin] = kernel.FIRST_LETTER + fold[latin] - ord("a")
    for point in range(0xC0, 0x250):  # Latin letters with diacritics
        base = unicodedata.normalize("NFD", chr(point))[0].lower()
        if "a" <= base <= "z":
            looks[point] = kernel.FIRST_LETTER + ord(base) - 97
    for char, letter in LOOK_ALIKE.items():
        looks[ord(char)] = looks[ord(char.upper())] = kernel.FIRST_LETTER + ord(letter) - 97
    leet = np.zeros((SMALL, 2), np.int32)
    for char, letters in LEET.items():
        for option, letter in enumerate(letters):
            leet[ord(char), option] = kernel.FIRST_LETTER + ord(letter) - 97
    kinds = np.zeros(0x10000, np.uint8)
    for chars, kind in ((HIDDEN, kernel.HIDDEN), (WILD, kernel.WILD), (HARD, kernel.HARD)):
        for char in chars:
            kinds[ord(char)] = kind
    for first, last in HIDDEN_RANGES:
        kinds[first : last + 1] = kernel.HIDDEN
    return looks, leet, kinds
