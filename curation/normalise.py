"""Raw text to canonical text: the same words without the accidents of their transport. Idempotent.

In: the texts of a `RawBatch`. Out: texts for `documents/`, ids and hashes. Called by the measure pass. In order,
repeated until nothing changes:

1. terminal colour codes are removed;
2. HTML entities are decoded, in texts without a `<` (one with `<` is markup or speaks of it, and means its entities);
3. mojibake is repaired line by line with ftfy (UTF-8 read as Windows-1252 and the like, C1 controls);
4. every line end (CR LF, CR, VT, FF, U+2028, U+2029) becomes a newline;
5. control and invisible characters are removed: see `curation.kernels.normalise.REMOVED`;
6. Unicode normal form C;
7. white space at both ends is removed.

Nothing else changes: no case, no quotes, no widths, no ligatures, no white space inside.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import ftfy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ftfy.fixes import remove_terminal_escapes, unescape_html

from curation.kernels.normalise import NEWLINES, REMOVED, mojibake_pairs, scan, trimmed
from curation.kernels.text_batch import TextBatch

# Entities nest (`&amp;amp;lt;`), and a mojibake of a mojibake happens: of 184,007 documents of Reddit, blogs, reviews,
# news and web pages 33,497 needed one round, 97 more, one of them nine. Beyond this many the text was made to nest.
MAX_ENTITY_ROUNDS = 16

_SURROGATE = re.compile("[\ud800-\udfff]")
_ASCII: dict[int, str | None] = {point: None for low, high in REMOVED for point in range(low, min(high, 0x7F) + 1)}
_ASCII |= {ord(char): "\n" for char in NEWLINES if char.isascii()}
_NEWLINE = re.compile(f"[{NEWLINES}]")
_REMOVED = re.compile("[" + "".join(f"{chr(a)}-{chr(b)}" for a, b in REMOVED if a not in (0x200B, 0xD800)) + "]")
# Thai, Lao, Myanmar and Khmer write a zero-width space between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_ZERO_WIDTH_SPACE = re.compile(f"(?<![{_UNSPACED}])\u200b|\u200b(?![{_UNSPACED}])")
_ENCODING = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
)


def normalise(text: str) -> str:
    """`text` in canonical form; empty when nothing readable is left. normalise(normalise(x)) == normalise(x).

    Lone surrogates, which no file can hold, become U+FFFD.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    rounds = 0
    while True:
        before = text
        text = _round(text)
        if text == before:
            return text
        rounds += 1
        if rounds == MAX_ENTITY_ROUNDS:
            # A text without `&` decodes nothing more, so what this returns is a fixed point too.
            text = text.replace("&", "")


def _round(text: str) -> str:
    if "\x1b" in text:
        text = remove_terminal_escapes(text)
    if "&" in text and "<" not in text:
        text = unescape_html(text)
    if text.isascii():
        return text.replace("\r\n", "\n").translate(_ASCII).strip()
    text = _NEWLINE.sub("\n", _repaired(text).replace("\r\n", "\n"))
    text = _REMOVED.sub("", text)
    if "\u200b" in text:
        text = _ZERO_WIDTH_SPACE.sub("", text)
    return unicodedata.normalize("NFC", text).strip()


def _repaired(text: str) -> str:
    """`text` with the mojibake of each line undone; lines are judged apart because pages mix their sources."""
    may_be_bad = _may_be_bad()
    if not may_be_bad.search(text):
        return text
    return "\n".join(
        ftfy.fix_encoding(line, config=_ENCODING) if may_be_bad.search(line) else line for line in text.split("\n")
    )


@lru_cache(maxsize=1)
def _may_be_bad() -> re.Pattern[str]:
    """Matches wherever ftfy's badness pattern could, 40 times as fast: C1 controls, and the pairs of the kernel.

    ftfy tries some thirty alternatives at each character (5 MB/s); this one only behind a rare first character.
    """
    first, second = mojibake_pairs()
    behind = []
    for bit in np.uint64(1) << np.arange(64, dtype=np.uint64):
        if (first & bit).any():
            behind.append(f"(?<={_set(first & bit)}){_set(second & bit)}")
    starts = _set(first, more="\\x80-\\x9f")
    return re.compile(f"{starts}(?:(?<=[\x80-\x9f])|{'|'.join(behind)})")


def _set(marks: npt.NDArray[np.uint64], more: str = "") -> str:
    """The character set of the code points that are marked."""
    return "[" + more + "".join(f"\\u{point:04x}" for point in np.flatnonzero(marks)) + "]"


def normalise_batch(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """All texts in canonical form, and which of them differ from the input.

    Args:
        texts: string array without nulls.

    Returns:
        (string array, boolean array), rows as in `texts`. A text can be empty: the caller makes a dead letter of it.
    """
    batch = TextBatch(texts)
    found = scan(batch)
    result = trimmed(batch, found)
    rows = np.flatnonzero(found.needs_python)
    is_changed = (found.begins != batch.offsets[:-1]) | (found.ends != batch.offsets[1:])
    if len(rows):
        before = batch.array.take(pa.array(rows))
        after = _normalised(before)
        is_changed[rows] = pc.not_equal(before, after).to_numpy(zero_copy_only=False)
        result = pc.replace_with_mask(result, pa.array(found.needs_python), after)
    return result, pa.array(is_changed)


def _normalised(texts: pa.Array) -> pa.Array:
    """`normalise` of each text, with the kernel as the judge of which need a second round."""
    once = pa.array([_round(text) for text in texts.to_pylist()], texts.type)
    again = scan(TextBatch(once)).needs_python
    if not again.any():
        return once
    rest = [normalise(text) for text in texts.filter(pa.array(again)).to_pylist()]
    return pc.replace_with_mask(once, pa.array(again), pa.array(rest, texts.type))
