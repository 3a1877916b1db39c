"""From a folder's listing to the files that hold data: what the job's `input` expands to before formats are asked."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from curation.errors import ConfigError, Problem, StageError
from curation.sources.base import format_of

# Files that Hugging Face `save_to_disk` and hub folders put beside the data.
SIDECARS = ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json")


def data_files(listing: Iterable[str]) -> list[str]:
    """The files of a folder's (recursive) listing, relative to the folder, that a source can read, sorted.

    Left out: hidden files and folders, names that begin with an underscore (`_SUCCESS`), the sidecars of Hugging Face
    folders and its `cache-*.arrow` files, and every suffix that names no format.
    """
    return sorted(path for path in listing if _is_data(path))


def _is_data(path: str) -> bool:
    *folders, name = path.split("/")
    if any(folder.startswith(".") for folder in folders):
        return False
    if name.startswith(("_", ".")) or name in SIDECARS or (name.startswith("cache-") and name.endswith(".arrow")):
        return False
    try:
        format_of(name)
    except ConfigError:
        return False
    return True


def local_files(path: str) -> list[str]:
    """The data files of a local path: itself, what a glob matches, or what lies below a folder.

    A file that is named, or matched by a glob, is taken whatever its suffix; of a folder only `data_files`.

    Raises:
        StageError: there is nothing there.
    """
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
    files = []
    for match in matches:
        below = Path(match)
        if below.is_dir():
            inside = [each.relative_to(below).as_posix() for each in below.rglob("*") if _is_there(each)]
            files += [f"{match.rstrip('/')}/{each}" for each in data_files(inside)]
        elif _is_there(below):
            files.append(match)
    if not files:
        raise nothing_at(path)
    return files


def _is_there(path: Path) -> bool:
    # A link to nothing counts: whoever opens it says so, while leaving it out would lose a file without a word.
    return path.is_file() or (path.is_symlink() and not path.exists())


def nothing_at(path: str) -> StageError:
    """The error of an input that names no file."""
    hint = "of a folder only files count whose suffix names a format; name others with a glob and say their `format`"
    return StageError(Problem("no-input", "no file to read", path, "a file, a glob or a folder with data files", hint))
