"""Token folders: what was written is what is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alignment.tokens import TokenFolder, check_arms, write_tokens
from curation.errors import ConfigError, DataContractError

IDS = {"pad": 0, "bos": 1, "eos": 2}


def written(folder: Path, tokens: int = 157, vocabulary: int = 200, seed: int = 0, **facts: object) -> TokenFolder:
    ids = np.random.default_rng(seed).integers(0, vocabulary, tokens)
    return write_tokens(
        folder, [ids[:50], ids[50:]], [np.arange(20)], context=8, vocabulary=vocabulary, ids=IDS, facts=facts
    )


def test_the_stream_is_cut_to_whole_rows_that_share_their_border(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 200, 157)
    folder = written(tmp_path / "a")

    assert folder.ids.dtype == np.uint16
    assert folder.ids.tolist() == ids[:153].tolist()
    assert folder.starts.dtype == np.int64
    assert folder.starts.tolist() == list(range(0, 152, 8))
    predicted = [int(start) + 1 + k for start in folder.starts for k in range(folder.context)]
    assert predicted == list(range(1, 153)), "every id but the first is predicted once"
    assert folder.validation.tolist() == list(range(20))
    assert folder.validation_starts.tolist() == [0, 8]
    assert (folder.context, folder.vocabulary, folder.pad, folder.bos, folder.eos) == (8, 200, 0, 1, 2)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_two_bytes_while_they_fit(tmp_path: Path, vocabulary: int, dtype: type) -> None:
    ids = np.array([0, vocabulary - 1] * 5)
    folder = write_tokens(tmp_path, [ids], [], context=8, vocabulary=vocabulary, ids=IDS)

    assert folder.ids.dtype == dtype
    assert folder.ids.tolist() == ids[:9].tolist()
    assert folder.validation.tolist() == []
    assert len(folder.validation_starts) == 0


def test_folders_with_the_same_tokens_have_the_same_hash(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a", arm="raw"), written(tmp_path / "b", arm="curated")

    assert one.sha256 == other.sha256
    assert written(tmp_path / "c", seed=1).sha256 != one.sha256
    assert TokenFolder.open(tmp_path / "a").sha256 == one.sha256


@pytest.mark.parametrize("name", ["tokens.bin", "index.npy", "validation.bin"])
def test_a_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    written(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataContractError, match="the sha256 differs"):
        TokenFolder.open(tmp_path)
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(DataContractError, match="bytes"):
        TokenFolder.open(tmp_path, verify=False)
    (tmp_path / name).unlink()
    with pytest.raises(DataContractError, match="the file is missing"):
        TokenFolder.open(tmp_path, verify=False)


def test_what_is_no_token_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it has no tokens\.json"):
        TokenFolder.open(tmp_path)
    written(tmp_path)
    facts = json.loads((tmp_path / "tokens.json").read_text())
    for broken, message in (
        ("{", "cannot be read"),
        (json.dumps({**facts, "schema_version": 9}), "schema_version is 9"),
        (json.dumps({k: v for k, v in facts.items() if k != "context"}), "`context` is missing"),
    ):
        (tmp_path / "tokens.json").write_text(broken)
        with pytest.raises(DataContractError, match=message):
            TokenFolder.open(tmp_path)


def test_what_could_not_be_learnt_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="7 training tokens"):
        write_tokens(tmp_path, [np.arange(7)], [], context=8, vocabulary=9, ids=IDS)
    with pytest.raises(DataContractError, match="a token id of 9"):
        write_tokens(tmp_path, [np.arange(10)], [], context=8, vocabulary=9, ids=IDS)
    with pytest.raises(ConfigError, match="pad and eos are both 2"):
        write_tokens(tmp_path, [np.arange(9)], [], context=8, vocabulary=9, ids={**IDS, "pad": 2})
    assert not (tmp_path / "tokens.json").exists()


def test_arms_whose_counts_differ_are_refused_by_both_names_and_both_counts(tmp_path: Path) -> None:
    raw, same = written(tmp_path / "a", 1201), written(tmp_path / "b", 1201, seed=1)
    fewer = written(tmp_path / "c", 1100)

    check_arms({"raw": raw, "curated": same})
    with pytest.raises(DataContractError) as caught:
        check_arms({"raw": raw, "curated": same, "blocklist": fewer})
    assert [problem.message for problem in caught.value.problems] == [
        "arm `raw` has 1,201 training tokens, arm `blocklist` has 1,097",
        "arm `raw` has 150 training rows, arm `blocklist` has 137",
    ]
    check_arms({"raw": raw, "blocklist": fewer}, counts=False)
    with pytest.raises(DataContractError, match="arm `raw` has 200 ids in the tokenizer, arm `other` has 201"):
        check_arms({"raw": raw, "other": written(tmp_path / "d", 1201, vocabulary=201)}, counts=False)
