"""A decoder cut to its lower layers: a smaller model out of a trained one."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from curation.errors import ConfigError, Problem


def shorten(decoder: Any, share: float, where: str) -> None:
    """Cut a decoder to the lower `share` of its layers, rounded up, in place.

    Raises:
        ConfigError: the decoder does not hold its layers in one list.
    """
    total = int(decoder.config.num_hidden_layers)
    kept = math.ceil(share * total)
    if kept == total:
        return
    stacks = [
        (parent, name, child)
        for parent in decoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == total
    ]
    if len(stacks) != 1:
        message = f"{type(decoder).__name__} does not hold its {total} layers in one list"
        raise ConfigError(Problem("cannot-cut", message, where, hint="set `keep_layers` to 1"))
    parent, name, layers = stacks[0]
    setattr(parent, name, layers[:kept])
    decoder.config.num_hidden_layers = kept
    if getattr(decoder.config, "layer_types", None):
        decoder.config.layer_types = decoder.config.layer_types[:kept]
