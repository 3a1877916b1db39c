"""One piece of work, one process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from alignment.claims import NAME, claim


def test_what_one_holds_another_does_not_get_until_it_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "1"
    elsewhere = tmp_path / "curated" / "1"
    with claim(folder) as first, claim(folder, wait=False) as second, claim(elsewhere, wait=False) as other:
        pass
    assert (first, second, other) == (True, False, True)
    with claim(folder, wait=False) as again:
        assert again


def test_a_claim_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    holder = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from alignment.claims import claim
        with claim(Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with claim(tmp_path, wait=False) as while_it_lives:
            pass
        process.kill()
    with claim(tmp_path, wait=False) as after_it_died:
        pass

    assert (while_it_lives, after_it_died) == (False, True)


def test_claiming_again_touches_no_file(tmp_path: Path) -> None:
    with claim(tmp_path):
        pass
    before = (tmp_path / NAME).stat().st_mtime_ns
    with claim(tmp_path):
        assert (tmp_path / NAME).stat().st_mtime_ns == before
