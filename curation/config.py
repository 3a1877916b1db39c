"""Job files: YAML with `kind:` first, `--set` overrides, and one message for everything that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from curation.errors import ConfigError, Problem, unknown_name

KINDS = ("curate", "fit", "experiment", "audit", "audit_pools", "hidden_objective")


def load_job_file(path: str, kind: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in a job file of kind `kind`, with `a.b=value` overrides applied; not yet typed.

    Raises:
        ConfigError: the file cannot be read, is not YAML, is of another kind, or an override is malformed.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(Problem("no-file", f"there is no job file `{path}`")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem("unreadable", f"cannot read job file `{path}`: {error}")) from None
    except yaml.YAMLError as error:
        raise ConfigError(Problem("not-yaml", f"not a YAML file: {error}", path)) from None
    if not isinstance(data, dict):
        raise ConfigError(Problem("not-a-mapping", "a job file is a mapping of settings", path, "`kind: curate` first"))
    given = data.get("kind")
    if given not in KINDS:
        raise ConfigError(unknown_name("kind", str(given), KINDS, f"{path}: kind"))
    if given != kind:
        raise ConfigError(Problem("other-kind", f"this job is of kind `{given}`", f"{path}: kind", f"`{kind}`"))
    for override in overrides:
        apply_override(data, override)
    return data


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one value in place: `a.b=VALUE`, VALUE in YAML.

    Raises:
        ConfigError: no `=`, not YAML, or the path runs through something that is not a mapping.
    """
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ConfigError(Problem("bad-override", f"`--set {override}`", None, "`--set a.b=VALUE`"))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(Problem("bad-override", f"`--set {override}`: the value is not YAML: {error}")) from None
    *parents, last = name.split(".")
    current = data
    for part in parents:
        current = current.setdefault(part, {})
        if not isinstance(current, dict):
            raise ConfigError(Problem("bad-override", f"`--set {override}`: `{part}` is not a mapping"))
    current[last] = value
