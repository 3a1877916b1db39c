"""Any hit of a word list, as C4 did it: the baseline that the context filter is measured against."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class BlocklistSettings(Settings):
    # C4: "removed any page that contained any word on the List of Dirty, Naughty, Obscene or Otherwise Bad Words"
    # (Raffel et al. 2020, section 2.2).
    max_hits: int = Field(default=0, ge=0, description="documents with more hits than this fail")


class BlocklistFilter(Filter[BlocklistSettings]):
    name: ClassVar[str] = "blocklist"
    summary: ClassVar[str] = "documents with a word of a list (default: LDNOOBW, English), whatever the context"
    settings_type = BlocklistSettings
    producer: ClassVar[Producer] = "score"
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("hits", "int64", "words and phrases of the list in the document"),
        Signal("spans", "spans", "where they stand, code points"),
    )

    def bounds(self, settings: BlocklistSettings) -> tuple[Bound, ...]:
        return (Bound("listed_word", "hits", "above", settings.max_hits, "holds a word of the list", "spans"),)


FILTERS.add("blocklist", BlocklistFilter())
