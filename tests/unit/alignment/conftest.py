"""One thread for every test: two processes that share a core with several threads each slow down tenfold, and the order
in which threads add numbers would be another source of difference. Without torch the folder is not collected."""

from __future__ import annotations

import importlib.util
import os

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["*"]
else:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the processes that tests start
    import torch

    torch.set_num_threads(1)
