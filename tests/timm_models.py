"""timm's networks without torchvision: only names that their import asks for are stood in for."""

import importlib.abc
import importlib.machinery
import sys
import types

import pytest

STANDS_IN = ("torchvision", "huggingface_hub", "yaml")


class _Named(type):
    """A class whose attributes are their names."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Anything(types.ModuleType):
    """A module with a class for every name."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that stand in."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in STANDS_IN:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        pass


def create(name, **options):
    """A network of timm, or skip the test if timm is not installed."""
    finder, before = _Finder(), set(sys.modules)
    sys.meta_path.append(finder)
    try:
        pytest.importorskip("timm.models")
        import timm
    finally:
        sys.meta_path.remove(finder)
        for module in set(sys.modules) - before:
            if module.split(".")[0] in STANDS_IN and isinstance(sys.modules[module], _Anything):
                del sys.modules[module]
    return timm.create_model(name, pretrained=False, **options)
