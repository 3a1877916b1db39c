"""torch.compile for the part of a model that every stage calls, put on before training and taken off after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from curation.errors import ConfigError, Problem


def compile_blocks(model: nn.Module, backend: Any = "inductor") -> None:
    """Compile the decoder of a language or reward model in place; any other model as a whole.

    The decoder is the costly part that every stage calls, through the model or by itself. In place, so that the
    weights keep their names: a wrapper puts `_orig_mod.` before them.
    """
    _decoder(model).compile(backend=backend)


def leave_compiled(model: nn.Module) -> None:
    """Undo `compile_blocks`: what comes after training has other shapes and keeps no gradients."""
    _decoder(model)._compiled_call_impl = None
    torch.compiler.reset()


def check_compiler(where: torch.device) -> None:
    """What `compile: true` takes is there.

    Raises:
        ConfigError: on a CPU, no C++ compiler.
    """
    if where.type == "cuda":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        message = f"`compile: true` on a CPU takes a C++ compiler, and none was found: {str(error).splitlines()[0]}"
        raise ConfigError(
            Problem("no-compiler", message, "loop.compile", hint="install g++, or leave it out")
        ) from None


def _decoder(model: nn.Module) -> Any:
    whole: Any = model
    if hasattr(whole, "backbone"):
        return whole.backbone
    if hasattr(whole, "get_decoder"):
        return whole.get_decoder() or model
    return whole
