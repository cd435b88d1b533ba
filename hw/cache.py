"""Where what took long to make is kept: simulators, netlists, results of place and route."""

import os
import pathlib

__all__ = ["cache_folder"]


def cache_folder() -> pathlib.Path:
    """The folder: ``BIVIT_CACHE``, or ``~/.cache/bivit``."""
    chosen = os.environ.get("BIVIT_CACHE")
    return pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache" / "bivit"
