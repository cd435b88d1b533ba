"""From checkpoints to programs, constant memories and build folders.

Names are looked up when they are first used: the numeric formats in ``bivit.compiler.ir`` are also
for those who need nothing of the rest.
"""

import importlib

_HOME = {"BuildError": "build", "CompileError": "structures", "compile": "build",
         "load_build": "build", "lower": "passes"}

__all__ = ["BuildError", "CompileError", "compile", "load_build", "lower"]  # noqa: F822


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
