import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from curation.seeding import derive_seed, unit_hash


def test_seeds_are_pinned_so_that_old_runs_can_be_repeated() -> None:
    assert derive_seed(0, "pretrain", "data") == 5869581495632015932
    assert unit_hash("doc-1", 7) == 0.2846227528782671


def test_each_purpose_has_its_own_seed() -> None:
    purposes = [(0, "a", "b"), (0, "ab"), (0, "b", "a"), (1, "a", "b"), (0, "a"), (0,)]

    assert len({derive_seed(*purpose) for purpose in purposes}) == len(purposes)


@given(st.integers(), st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_a_seed_fits_a_signed_64_bit_integer(root: int, purpose: list[str]) -> None:
    assert 0 <= derive_seed(root, *purpose) < 2**63


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 2**64 - 1))
def test_a_unit_hash_is_a_number_from_zero_to_below_one(key: str, seed: int) -> None:
    assert 0.0 <= unit_hash(key, seed) < 1.0


def test_unit_hashes_are_spread_evenly() -> None:
    n = 20_000
    values = [unit_hash(f"doc-{i}", 0) for i in range(n)]

    # Mean of n uniform numbers: standard deviation 1/sqrt(12 n) = 0.002; four of them on either side.
    assert abs(sum(values) / n - 0.5) < 0.0082
    tenths = [sum(low <= value * 10 < low + 1 for value in values) for low in range(10)]
    assert max(tenths) - min(tenths) < 300  # binomial standard deviation 42


def test_another_python_process_with_another_hash_seed_gives_the_same_numbers() -> None:
    code = "from curation.seeding import *; print(derive_seed(3, 'x'), unit_hash('k', 5))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }

    assert seen == {f"{derive_seed(3, 'x')} {unit_hash('k', 5)}\n"}
