"""PyTorch side: networks, training, conversion to integers, the integer reference, export."""

import importlib

_HOMES = {
    "ConvertError": "conversion", "ExportError": "tracing", "GraphModel": "tracing",
    "ViTConfig": "config", "agreement": "comparison", "convert": "conversion",
    "convert_file": "floats", "export": "tracing", "load": "tracing", "random_graph": "synthetic",
    "random_model": "synthetic", "settle": "conversion", "to_graph": "tracing",
    "train_digits": "digits",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
