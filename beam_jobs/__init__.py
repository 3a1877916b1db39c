"""The passes of a curation run as Beam pipelines over shards: the only folder that imports apache_beam."""

import logging


class _CloudClientsAbsent(logging.Filter):
    """Beam warns on import that its Google Cloud clients are not installed; most users do not want them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "apitools not found" not in record.getMessage()


logging.getLogger().addFilter(_CloudClientsAbsent())
