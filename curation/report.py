"""report.html: placeholder until the page is written."""

from typing import Any


def render_report(run: str, manifest: dict[str, Any], opener: Any) -> str:
    return "<!doctype html><title>Headwater</title>"
