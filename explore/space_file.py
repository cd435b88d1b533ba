"""A space from a TOML file."""

import dataclasses
import math
import tomllib
from pathlib import Path

from bivit.explore.hardware import HARDWARE
from bivit.explore.space import METHODS, ExploreError, Search, Space, Training

__all__ = ["load_space"]

_TABLES = ("hardware", "network", "training", "constraints", "search")
_MOST_VALUES = 10_000


def load_space(path) -> Space:
    """The space of a file, checked.

    Raises
    ------
    ExploreError
        In one sentence: the file, the key, what is wrong with it.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExploreError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExploreError(f"{path} is not a TOML file: {error}") from None
    for key, value in content.items():
        if key not in (*_TABLES, "objectives"):
            raise ExploreError(f"{path}: there is no key {key}; keys are objectives and the "
                               f"tables {', '.join(_TABLES)}")
        if key in _TABLES and not isinstance(value, dict):
            raise ExploreError(f"{path}: {key} must be a table, [{key}]")
    for key in ("hardware", "network"):
        if key not in content:
            raise ExploreError(f"{path}: the table [{key}] is missing")
    more = {}
    if "objectives" in content:
        objectives = content["objectives"]
        if not isinstance(objectives, list) or not all(isinstance(x, str) for x in objectives):
            raise ExploreError(f"{path}: objectives must be a list of names")
        more["objectives"] = tuple(objectives)
    if "training" in content:
        more["training"] = _fields(Training, content["training"], f"{path}, [training]")
        _within(more["training"].epochs > 0, path, "epochs of [training] must be above 0")
        _within(more["training"].seed >= 0, path, "seed of [training] must be 0 or more")
    space = Space(
        hardware=_parameters(content["hardware"], HARDWARE, f"{path}, [hardware]"),
        network=_parameters(content["network"], _network_parameters(), f"{path}, [network]"),
        constraints=_constraints(content.get("constraints", {}), f"{path}, [constraints]"),
        search=_search(content.get("search", {}), path), where=str(path), **more)
    space.check()
    return space


def _within(condition, path, sentence):
    if not condition:
        raise ExploreError(f"{path}: {sentence}")


def _search(content, path):
    search = _fields(Search, content, f"{path}, [search]")
    _within(search.method in METHODS, path, f"method of [search] is {search.method!r}, but must "
            f"be one of {', '.join(METHODS)}")
    _within(search.designs >= 1, path, "designs of [search] must be 1 or more")
    _within(search.generation >= 2, path, "generation of [search] must be 2 or more")
    _within(search.seed >= 0, path, "seed of [search] must be 0 or more")
    return search


def _fields(kind, content, where):
    """A dataclass of a table, its keys and types checked."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise ExploreError(f"{where}: there is no key {key}; keys are {', '.join(fields)}")
        values[key] = _typed(value, fields[key].type, f"{where}: {key}")
    return kind(**values)


def _typed(value, kind, what):
    if kind is float and type(value) is int:
        value = float(value)
    if kind is not object and type(value) is not kind:
        raise ExploreError(f"{what} is {value!r}, but must be of type {kind.__name__}")
    return value


def _parameters(table, known, where):
    """Values of each parameter of a table."""
    found = {}
    for name, value in table.items():
        if name not in known:
            raise ExploreError(f"{where}: there is no parameter {name}; parameters are "
                               f"{', '.join(known)}")
        what = f"{where}: {name}"
        if isinstance(value, dict):
            values = _range(value, what)
        else:
            values = value if isinstance(value, list) else [value]
        if not values:
            raise ExploreError(f"{what} has no value to choose; give it one")
        found[name] = tuple(_frozen(_typed(item, known[name], what)) for item in values)
    return found


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def _range(table, what):
    """Values of ``{ low, high, step }`` or ``{ low, high, times }``."""
    steps = [key for key in ("step", "times") if key in table]
    if set(table) - {"low", "high", "step", "times"} or len(steps) != 1 or not {
            "low", "high"} <= set(table):
        raise ExploreError(f"{what} must be a value, a list, {{ low, high, step }} or "
                           "{ low, high, times }")
    for key, value in table.items():
        if type(value) not in (int, float):
            raise ExploreError(f"{what}: {key} is {value!r}, but must be a number")
    low, high, step = table["low"], table["high"], table[steps[0]]
    if low > high:
        raise ExploreError(f"{what}: the range from {low} to {high} is empty; let low be at most "
                           "high")
    if steps == ["step"] and step <= 0 or steps == ["times"] and (step <= 1 or low <= 0):
        raise ExploreError(f"{what}: {steps[0]} {step} does not lead from {low} to {high}")
    if steps == ["step"]:
        count = math.floor((high - low) / step + 1e-9) + 1
        values = [low + index * step for index in range(min(count, _MOST_VALUES + 1))]
    else:
        values = [low]
        while values[-1] * step <= high * (1 + 1e-9) and len(values) <= _MOST_VALUES:
            values.append(values[-1] * step)
    if len(values) > _MOST_VALUES:
        raise ExploreError(f"{what}: there are more than {_MOST_VALUES} values; take larger steps")
    return values


def _constraints(table, where):
    found = {}
    for name, value in table.items():
        if type(value) not in (int, float) or value <= 0:
            raise ExploreError(f"{where}: {name} is {value!r}, but must be a number above 0")
        found[name] = value
    return found


def _network_parameters():
    """Parameter of any network to the type of its values."""
    from bivit.models.config import BinaryViTConfig, ViTConfig
    from bivit.models.swin import SwinConfig

    kinds = {}
    for config in (ViTConfig, SwinConfig, BinaryViTConfig):
        for field in dataclasses.fields(config):
            kind = field.type if field.type in (int, float, bool) else list
            kinds[field.name] = kind if kinds.get(field.name, kind) is kind else object
    kinds["img_size"] = int
    return {"name": str, "activations": str} | kinds
