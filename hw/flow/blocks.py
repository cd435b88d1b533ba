"""Blocks of a design, each distinct one mapped on its own, once, and kept in the cache.

What a block becomes depends on its own text and on the ports of the blocks in it, not on where it
lies: targets that share blocks share what they are mapped to.
"""

import dataclasses
import hashlib
import pathlib
import re

from bivit.hw.devices import RULES, Device
from bivit.hw.flow.design import CORE
from bivit.hw.flow.store import Store
from bivit.hw.flow.tools import yosys

__all__ = ["JOINED", "map_blocks"]

JOINED = "joined.il"
"""File with all blocks of a design, mapped."""

_PARTS, _MAPPED, _KEPT = "parts.il", "mapped.il", "kept.il"
_MODULE = re.compile(r"(?m)^(?:attribute .*\n)*module (\S+)\n(?:.*\n)*?end\n")
_CELL = re.compile(r"(?m)^  cell (\S+) ")
_PORT = re.compile(r"(?m)^  wire .*\b(?:input|output|inout) \d+.*\n")


@dataclasses.dataclass(frozen=True)
class _Block:
    """A module of a design, as it is mapped.

    Parameters
    ----------
    name : str
        Of what depends on the text alone.
    text : str
        RTLIL under that name, with the blocks in it as empty modules beside it.
    children : tuple of str
        The modules of the design that those stand for, in their order.
    """

    name: str
    text: str
    children: tuple[str, ...]


def map_blocks(device: Device, folder: pathlib.Path, top: str, progress) -> None:
    """Map every block of the design in `folder`, each distinct one once; leaves ``joined.il``.

    Parameters
    ----------
    device : Device
    folder : path
    top : str
        The top module, ``accelerator`` or the pins around it.
    progress : callable (text)
    """
    blocks, kept = _mapped(device, folder, top, progress)
    texts, cells = {}, {}
    for module, block in blocks.items():
        kept[block.name].unpack(folder / _MAPPED)
        found = _modules((folder / _MAPPED).read_text())
        names = {f"\\{block.name}_{number}": child for number, child in enumerate(block.children)}
        names[f"\\{block.name}"] = module
        texts[module] = re.sub(
            r"(?m)^(module |  cell )(\S+)",
            lambda match, names=names: match[1] + names.get(match[2], match[2]),
            found.pop(f"\\{block.name}"))
        cells |= found
    (folder / JOINED).write_text("".join(["autoidx 100000000\n", *cells.values(),
                                          *texts.values()]))


def _mapped(device, folder, top, progress):
    """Blocks of a design by module, and the cache entries of what each name is mapped to."""
    progress("Yosys: reading")
    read = "design.v" if top == CORE else "design.v pins.v"
    yosys.run(["-q", "-p", f"read_verilog -sv {read}; hierarchy -top {top}; "
               f"write_rtlil {_PARTS}"], folder)
    modules = _modules((folder / _PARTS).read_text())
    blocks = {module: _block(text, modules) for module, text in modules.items()}
    own_top = blocks[f"\\{top}"].name
    kept = {block.name: Store("top" if block.name == own_top else "block", device.family.synthesis,
                              device.family.apart, block.text, yosys.version)
            for block in blocks.values()}
    missing = {block.name: block for block in blocks.values() if kept[block.name].read() is None}
    if last := missing.pop(own_top, None):
        progress("Yosys: mapping the top")
        _map([last], last.name, device, folder, kept)
    if missing:
        progress(f"Yosys: mapping {len(missing)} of {len(kept)} blocks")
        _map(missing.values(), "blocks", device, folder, kept)
    return blocks, kept


def _map(blocks, top, device, folder, kept):
    """Map blocks in one run of Yosys, and keep each with the cells in it.

    All cells of the family are kept with the top: when the blocks are joined some are put in.
    """
    text = "".join(block.text for block in blocks)
    if top == "blocks":
        text += "module \\blocks\n" + "".join(
            f"  attribute \\keep 1\n  cell \\{block.name} \\{block.name}\n  end\n"
            for block in blocks) + "end\n"
    (folder / _PARTS).write_text(text)
    (folder / RULES).write_text(device.family.rules)
    yosys.run(["-q", "-p", f"read_rtlil {_PARTS}; setattr -mod -set keep_hierarchy 1 *; "
               f"{device.family.synthesis} {device.family.apart} -top {top}; autoname; "
               f"setattr -mod -unset keep_hierarchy *; write_rtlil {_MAPPED}"], folder)
    found = _modules((folder / _MAPPED).read_text())
    for block in blocks:
        own = found[f"\\{block.name}"]
        kinds = found if block.name == top else dict.fromkeys(_CELL.findall(own))
        used = [found[kind] for kind in kinds
                if kind in found and not kind.startswith(f"\\{block.name}")]
        (folder / _KEPT).write_text("".join([own, *used]))
        kept[block.name].write({}, folder / _KEPT)


def _modules(text):
    """Modules of RTLIL by name."""
    return {match[1]: match[0] for match in _MODULE.finditer(text)}


def _block(text, modules):
    """The block that is a module among others, by its text and the ports of those in it."""
    children = tuple(kind for kind in dict.fromkeys(_CELL.findall(text)) if kind in modules)
    numbers = {child: number for number, child in enumerate(children)}
    text = re.sub(r"(?m)^ *attribute \\src .*\n", "", text)
    own = {}  # names that count lines and cells of the design
    text = re.sub(r"\$(?!paramod)\S*\$\d+\w*(?=\s)",
                  lambda match: own.setdefault(match[0], f"$own${len(own)}"), text)
    text = re.sub(r"(?m)^(  cell )(\S+)", lambda match: match[1] + (
        f"\\%_{numbers[match[2]]}" if match[2] in numbers else match[2]), text)
    text = re.sub(r"(?m)^module \S+", r"module \\%", text, count=1)
    text += "".join(f"attribute \\blackbox 1\nmodule \\%_{number}\n"
                    + "".join(_PORT.findall(modules[child])) + "end\n"
                    for child, number in numbers.items())
    name = f"block_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    return _Block(name, text.replace("\\%", f"\\{name}"), children)
