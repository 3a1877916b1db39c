"""`headwater list WHAT`: everything that has a name, one line each.

In: the registries and the folders they are filled from. Out: lines, or JSON with every detail.
"""

from __future__ import annotations

import argparse
import ast
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.filters import FILTERS
from curation.ruleset import load_ruleset, shipped_rulesets
from curation.sources import SOURCES

KINDS = ("filters", "classifiers", "rulesets", "formats", "stages", "metrics")
Row = dict[str, Any]

STAGES = ("pretrain", "sft", "reward", "ppo", "dpo", "kto")
# Module of `classifiers` → what ships for it. The first line of the module says what it does; nothing is imported.
CLASSIFIERS = {
    "language": "lid.176.ftz",
    "toxicity_fasttext": "toxicity.ftz",
    "encoder": "encoder.onnx",
    "toxicity_detoxify": "",
    "context": "context.json",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=KINDS, help="what to list")
    parser.add_argument("--verbose", action="store_true", help="also signals, reason codes, thresholds and settings")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout: every detail")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    found = LISTS[args.what]()
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in found)
    for row in found:
        print(f"{row['name'].ljust(width)}  {row['summary']}")
        if args.verbose:
            print("".join(f"    {line}\n" for line in _details(row)), end="")
    return 0


def filters() -> list[Row]:
    """Every filter: who measures it, its signals, its settings, and its bounds at the default settings."""
    rows = []
    for name, chosen in FILTERS.items():
        settings = _defaults(chosen.settings_type)
        bounds = chosen.bounds(settings) if settings is not None else ()
        rows.append(
            {
                "name": name,
                "summary": chosen.summary,
                "measured_by": chosen.producer,
                "signals": [{"name": s.name, "type": s.dtype, "description": s.description} for s in chosen.signals],
                "settings": {} if settings is None else settings.model_dump(mode="json"),
                "reasons": [
                    {"code": f"{name}.{b.code}", "signal": f"{name}.{b.signal}", "fails": b.side,
                     "threshold": b.threshold, "description": b.description}
                    for b in bounds
                ],
            }
        )  # fmt: skip
    return rows


def _defaults(settings_type: Any) -> Any:
    """The default settings, or None for a filter that must be told something (which files, which lists)."""
    needed = [name for name, field in settings_type.model_fields.items() if field.is_required()]
    return None if needed else settings_type()


def classifiers() -> list[Row]:
    """Every classifier of the `classifiers` package, and whether its weights are there."""
    rows = []
    for name, module in _modules("classifiers"):
        if name in CLASSIFIERS:
            path = module.parent / "weights" / CLASSIFIERS[name]
            ships = bool(CLASSIFIERS[name]) and path.is_file()
            size = path.stat().st_size if ships else 0
            rows.append(
                {
                    "name": name,
                    "summary": _first_line(module),
                    "weights": CLASSIFIERS[name] if ships else None,
                    "bytes": size,
                }
            )
    return rows


def stages() -> list[Row]:
    """Every training stage, in the order in which an experiment runs them."""
    found = dict(_modules("alignment", "stages"))
    return [{"name": name, "summary": _first_line(found[name])} for name in STAGES if name in found]


def metrics() -> list[Row]:
    """Every metric: the modules that register one."""
    return [
        {"name": name, "summary": _first_line(module)}
        for name, module in _modules("alignment", "metrics")
        if "\nMETRICS.add(" in module.read_text(encoding="utf-8")
    ]


def _modules(package: str, folder: str = "") -> list[tuple[str, Path]]:
    """Name and file of the modules of a package, without importing it: torch would be loaded with it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    files = (Path(next(iter(spec.submodule_search_locations))) / folder).glob("*.py")
    return sorted((path.stem, path) for path in files if not path.stem.startswith("_"))


def _first_line(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def rulesets() -> list[Row]:
    """Every shipped ruleset with its rules spelled out."""
    return [load_ruleset(name).plain() for name in shipped_rulesets()]


def formats() -> list[Row]:
    """Every input format and the suffixes that stand for it."""
    return [
        {"name": name, "summary": source.summary, "suffixes": list(source.suffixes)} for name, source in SOURCES.items()
    ]


def _details(row: Row) -> list[str]:
    lines = []
    for signal in row.get("signals", []):
        lines.append(f"signal {signal['name']} ({signal['type']}): {signal['description']}")
    words = {"below": "<", "above": ">", "at_least": ">=", "at_most": "<="}
    for reason in row.get("reasons", []):
        test = f"{reason['signal']} {words[reason['fails']]} {reason['threshold']:.6g}"
        lines.append(f"reason {reason['code']}: {test}: {reason['description']}")
    for name, value in row.get("settings", {}).items():
        lines.append(f"setting {name} = {json.dumps(value, ensure_ascii=False)}")
    for rule in row.get("rules", []):
        lines.append(f"rule {rule['as']}: {rule['action']}" + _exceptions(rule["actions"]))
    if row.get("sample"):
        lines.append(f"sample: as much as `{row['sample']['match']}` removes, seed {row['sample']['seed']}")
    if row.get("suffixes"):
        lines.append("suffixes " + " ".join(row["suffixes"]))
    if "weights" in row:
        lines.append(f"weights {row['weights']}, {row['bytes'] / 1e6:.1f} MB" if row["weights"] else "no weights ship")
    return lines


def _exceptions(actions: dict[str, str]) -> str:
    return "".join(f", {code}: {action}" for code, action in actions.items())


LISTS = {
    "filters": filters,
    "classifiers": classifiers,
    "rulesets": rulesets,
    "formats": formats,
    "stages": stages,
    "metrics": metrics,
}
