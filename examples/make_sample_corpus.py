"""Write the sample corpus: `python examples/make_sample_corpus.py [FOLDER]`.

1. documents: natural ones and planted ones (`sample_plants.py`)
2. one file of each input format, rows in a seeded order, so that duplicates lie far apart and in several files
3. `truth.jsonl`: what is true about each document, to score a run against; `sample_eval.jsonl` beside the folder

The content is a function of this code and the phrase banks alone. Compressed bytes may differ between versions of
zlib, zstd and Arrow; what they decompress to does not.
"""

from __future__ import annotations

import gzip
import html
import json
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from sample_grammar import PLANTS, Dice
from sample_plants import SEED, Row, contaminated, duplicates, junk, natural, pages, personal, sensitive

HERE = Path(__file__).resolve().parent
ROMANCE = {"es", "fr", "pt", "it"}
WARC_DATE = "2024-01-01T00:00:00Z"

# One line each; the second column is what the dead letter is about.
BROKEN_LINES: tuple[tuple[bytes, str], ...] = (
    (b'{"id": "broken-0", "text": "the quotation mark never closes}', "not JSON"),
    (b'{"id": "broken-1", "title": "a row without a text"}', "no text"),
    (b'{"id": "broken-2", "text": 42}', "text is not a string"),
    (b'{"id": "broken-3", "text": null}', "no text"),
    (b'{"id": "broken-4", "text": ""}', "empty text"),
    (b'{"id": "broken-5", "text": "   \\n\\t "}', "empty text"),
    (b'{"id": "broken-6", "text": "caf\xe9 in Latin-1"}', "not UTF-8"),
    (b'["broken-7", "a list"]', "not an object"),
    (b"broken-8 plain words", "not JSON"),
)


def main(folder: Path) -> None:
    """Write every file of the sample corpus into `folder`, and the evaluation items beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = placed(documents())
    lines = {name: [_json(_record(row, name)) for row in rows] for name, rows in files.items()}
    (folder / "web.jsonl.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress(_joined(lines["web"])))
    (folder / "forum.jsonl.gz").write_bytes(_gzip(_joined(lines["forum"])))
    (folder / "mixed.jsonl").write_bytes(_joined(_with_broken_lines(lines["mixed"])))
    _write_parquet(folder / "encyclopedia.parquet", files["encyclopedia"])
    *articles, note = pages()
    (folder / "pages.warc.gz").write_bytes(b"".join(_gzip(r) for r in _warc(articles)))
    (folder / "note.txt").write_text(note.text + "\n", encoding="utf-8", newline="\n")
    _write_truth(folder / "truth.jsonl", files, articles, note)
    items = [_json({"id": f"eval-{i:02}", "text": item}) for i, item in enumerate(PLANTS["eval"])]
    (folder.parent / "sample_eval.jsonl").write_bytes(_joined(items))


def documents() -> list[Row]:
    """Every document that stands in a file of rows."""
    rows = list(natural())
    return [*rows, *duplicates(rows), *junk(), *personal(), *contaminated(), *sensitive()]


def placed(rows: list[Row]) -> dict[str, list[Row]]:
    """File → rows in a seeded order. Encyclopedia: Romance languages and some English; mixed: a bit of everything."""
    files: dict[str, list[Row]] = {"web": [], "forum": [], "encyclopedia": [], "mixed": []}
    order = Dice(SEED, "order").shuffled([str(i) for i in range(len(rows))])
    for index in order:
        row = rows[int(index)]
        share = Dice(SEED, "place", row.id).below(100)
        if row.id.startswith(("forum", "toxic", "counter", "reclaimed")):
            name = "forum" if share < 96 else "mixed"
        elif row.lang in ROMANCE or row.kind == "explanation":
            name = "encyclopedia" if share < 92 else "mixed"
        elif row.lang != "en":
            name = "mixed" if share < 60 else "web"
        else:
            name = "web" if share < 80 else "encyclopedia" if share < 93 else "mixed"
        files[name].append(row)
    return files


def _record(row: Row, file: str) -> dict[str, object]:
    if file == "forum":
        return {"id": row.id, "selftext": row.text, "source": "forum", "score": Dice(SEED, "score", row.id).below(500)}
    site = f"https://{row.lang}.example.org/{row.id}"
    if file == "web":
        return {"id": row.id, "text": row.text, "source": "web", "url": site}
    return {"id": row.id, "text": row.text, "url": site, "lang": row.lang}


def _with_broken_lines(lines: list[bytes]) -> list[bytes]:
    result = list(lines)
    for i, (line, _) in enumerate(BROKEN_LINES):
        result.insert((i + 1) * len(lines) // (len(BROKEN_LINES) + 1), line)
    return result


def _write_parquet(path: Path, rows: list[Row]) -> None:
    records = [_record(row, "encyclopedia") for row in rows]
    table = pa.table(
        {name: pa.array([r[name] for r in records], pa.string()) for name in ("id", "text", "url", "lang")}
    )
    pq.write_table(table, path, compression="zstd", compression_level=15, row_group_size=200)


def _gzip(content: bytes) -> bytes:
    """One gzip member with no time and an unknown system: Python versions disagree on that byte (RFC 1952, OS)."""
    member = gzip.compress(content, 9, mtime=0)
    return member[:9] + b"\xff" + member[10:]


def _warc(articles: list[Row]) -> list[bytes]:
    """WARC 1.0 records (ISO 28500): one warcinfo, one HTML response an article, one image."""
    records = [_warc_record("warcinfo", "", b"software: examples/make_sample_corpus.py\r\n", "application/warc-fields")]
    http = "application/http; msgtype=response"
    for row in articles:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        records.append(_warc_record("response", _page_url(row), head + _html(row), http))
    image = b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\n\r\nGIF89a"
    records.append(_warc_record("response", "https://pages.example.org/dot.gif", image, http))
    return records


def _warc_record(kind: str, url: str, body: bytes, content_type: str) -> bytes:
    name = uuid.uuid5(uuid.NAMESPACE_URL, url or "warcinfo")
    head = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:{name}>",
        f"WARC-Date: {WARC_DATE}",
        *([f"WARC-Target-URI: {url}"] if url else []),
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body + b"\r\n\r\n"


def _html(row: Row) -> bytes:
    """A page as they are: menu, article, footer."""
    blocks = row.text.split("\n\n")
    title = html.escape(" ".join(blocks[0].split()[:6]).rstrip(".,"))
    menu = "".join(f'<li><a href="/{i}">{html.escape(label)}</a></li>' for i, label in enumerate(PLANTS["menu"][:8]))
    body = "".join(f"<p>{html.escape(block)}</p>\n" for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body>'
        f"<nav><ul>{menu}</ul></nav>\n<main><article><h1>{title}</h1>\n{body}</article></main>\n"
        f"<footer><p>Terms of use</p><p>Privacy policy</p></footer></body></html>\n"
    ).encode()


def _page_url(row: Row) -> str:
    return f"https://pages.example.org/{row.id}.html"


def _write_truth(path: Path, files: dict[str, list[Row]], articles: list[Row], note: Row) -> None:
    lines = []
    for name, rows in files.items():
        for row in rows:
            lines.append({"id": row.id, "file": name, "kind": row.kind, "expected": row.expected, "lang": row.lang})
            lines[-1].update(row.truth)
    for row in articles:
        lines.append({"url": _page_url(row), "file": "pages", "kind": row.kind, "expected": "keep", "lang": "en"})
    lines.append({"file": "note", "kind": note.kind, "expected": "keep", "lang": "en"})
    for i, (_, error) in enumerate(BROKEN_LINES):
        lines.append({"file": "mixed", "kind": "broken", "expected": "dead", "broken": i, "error": error})
    path.write_bytes(_joined([_json(line) for line in lines]))


def _json(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def _joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "sample_corpus")
