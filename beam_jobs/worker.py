"""A local worker process: Beam's own worker, saying only what matters.

Beam's local runner hands its workers no pipeline options, so they would log every connection they open and close.
"""

from __future__ import annotations

import json
import logging
import os
import sys


def main() -> None:
    options = json.loads(os.environ.get("PIPELINE_OPTIONS") or "{}")
    options.setdefault("default_sdk_harness_log_level", "ERROR")
    os.environ["PIPELINE_OPTIONS"] = json.dumps(options)
    logging.getLogger().setLevel(logging.ERROR)
    from apache_beam.runners.worker import sdk_worker_main

    from beam_jobs.runners import reuse_memory

    reuse_memory()
    # It raises the root level for its own first lines; the options above come too late for those.
    logging.getLogger(sdk_worker_main.__name__).setLevel(logging.ERROR)
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
