"""From Amaranth components to Verilog with one module per distinct block.

A parent puts a block into its module with :func:`place` and uses the ports of what comes back. In
Amaranth's simulator this is the block itself. Under :class:`VerilogPlatform` it is an instance of a
Verilog module, made once for each class and set of constructor parameters, however many blocks of
that kind there are. :func:`emit` gives the text of a whole design.
"""

import bisect
import collections
import concurrent.futures
import dataclasses
import inspect
import itertools
import re

from amaranth.back import rtlil, verilog
from amaranth.hdl import ClockSignal, Instance, Module, ResetInserter, ResetSignal, Value
from amaranth.lib import wiring

__all__ = ["Primitive", "VerilogPlatform", "emit", "left_out", "place"]

PREFIX = "bivit_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Primitive:
    """A hand-written Verilog module that stands for a component.

    A component with a method ``verilog_primitive()`` that returns one of these is not elaborated
    under :class:`VerilogPlatform`. The module has the component's ports and ``clk``.

    Parameters
    ----------
    module : str
        Name of the module.
    text : str
        Verilog of the module: the same for all components that name it.
    parameters : dict
        Verilog parameters of this instance.
    """

    module: str
    text: str
    parameters: dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """One distinct module: its name, its RTLIL, what it says about itself."""

    module: str
    rtlil: str
    comment: str
    clocked: bool
    alternative: tuple[str, str] | None = None


class VerilogPlatform:
    """Collects the distinct blocks of one design while it is elaborated."""

    def __init__(self):
        self._blocks = {}
        self._names = set()
        self._primitives = {}

    def place(self, m: Module, name: str, component: wiring.Component, reset: Value | None):
        """Add an instance of the module of `component` to `m`."""
        ports = {f"{'i' if way == wiring.In else 'o'}_{port}": value
                 for port, value, way in _ports(component)}
        component._MustUse__used = True  # its twin of equal parameters is elaborated in its place
        block = None if hasattr(component, "verilog_primitive") else self._block(component)
        for port, value, _ in _ports(component):
            value.name = f"{name}__{port}"  # a block's ports are nets of its parent from here on
        if block is None:
            primitive = component.verilog_primitive()
            if self._primitives.setdefault(primitive.module, primitive.text) != primitive.text:
                raise ValueError(f"two primitives are named {primitive.module}")
            ports |= {f"p_{key}": value for key, value in primitive.parameters.items()}
            m.submodules[name] = Instance(primitive.module, i_clk=ClockSignal(), **ports)
            return
        if block.clocked:
            all_resets = ResetSignal() if reset is None else ResetSignal() | reset
            ports |= {"i_clk": ClockSignal(), "i_rst": all_resets}
        m.submodules[name] = Instance(block.module, **ports)

    def _block(self, component):
        key = type(component), _parameters(component)
        if key not in self._blocks:
            module = self._module_name(type(component).__name__)
            self._blocks[key] = None  # keeps the order: parents before children
            self._blocks[key] = self._elaborate(component, module)
        return self._blocks[key]

    def _module_name(self, class_name):
        stem = PREFIX + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name

    def _elaborate(self, component, module):
        text = rtlil.convert(component, name=module, platform=self, emit_src=False)
        # Submodules that are no blocks carry dots in their names.
        text = re.sub(r"(?m)^(module|  cell) \\([\w.$]+)",
                      lambda match: f"{match[1]} \\{match[2].replace('.', '__')}", text)
        top = text[text.index(f"module \\{module}\n"):]
        top = top[:top.index("\nend")]
        alternative = (component.simulation_model(module)
                       if hasattr(component, "simulation_model") else None)
        clocked = re.search(r"(?m)^  wire .*\binput \d+ +\\clk$", top) is not None
        return _Block(module=module, rtlil=text, comment=_comment(component), clocked=clocked,
                      alternative=alternative)

    def verilog(self, component: wiring.Component, name: str) -> str:
        """Text of every module of the design with `component` at its top, called `name`."""
        self._names.add(name)
        top = self._elaborate(component, name)
        blocks = [top, *self._blocks.values()]
        with concurrent.futures.ThreadPoolExecutor() as pool:  # Yosys is a process of its own
            found = pool.map(_verilog_modules, _halves([block.rtlil for block in blocks]))
            modules = {name: text for own in found for name, text in own.items()}
        parts = []
        for block in blocks:
            own = [text for module, text in modules.items()
                   if module == block.module or module.startswith(f"{block.module}__")]
            text = "\n\n".join(own)
            if block.alternative is not None:
                macro, model = block.alternative
                text = f"`ifdef {macro}\n{model.strip()}\n`else\n{text}\n`endif"
            parts.append(f"// {block.comment}\n{text}\n")
        parts += [f"{text.strip()}\n" for _, text in sorted(self._primitives.items())]
        return "\n".join(parts)


def place(m: Module, platform, name: str, component: wiring.Component, *,
          reset: Value | None = None):
    """Add `component` to `m` as the submodule `name`.

    Parameters
    ----------
    m : Module
        The parent.
    platform
        What the parent's ``elaborate`` was given.
    reset : Value, optional
        A second synchronous reset of the block.

    Returns
    -------
    The object whose ports the parent uses.
    """
    if isinstance(platform, VerilogPlatform):
        platform.place(m, name, component, reset)
    else:
        m.submodules[name] = component if reset is None else ResetInserter(reset)(component)
    return component


def left_out(component: wiring.Component):
    """A component that its parent does not have: who reads its outputs reads zeros."""
    component._MustUse__used = True  # its ports are
    return component


def emit(component: wiring.Component, name: str) -> str:
    """Verilog of `component` as the module `name`, and of every distinct module below it.

    The text depends on the component's parameters alone: equal calls give equal bytes.
    """
    return VerilogPlatform().verilog(component, name)


def _ports(component):
    for path, member, value in component.signature.flatten(component):
        yield "__".join(map(str, path)), Value.cast(value), member.flow


def _parameters(component):
    """Constructor parameters of a component, which it keeps as attributes of the same names."""
    found, initialise = [], type(component).__init__
    if initialise is wiring.Component.__init__:
        return ()  # ports declared as annotations: all of the class are equal
    for name, parameter in list(inspect.signature(initialise).parameters.items())[1:]:
        if not hasattr(component, name) or parameter.kind in (
                parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{type(component).__name__} must keep its constructor parameter "
                            f"{name!r} as an attribute, so that equal blocks are one module")
        found.append((name, getattr(component, name)))
    return tuple(found)


def _comment(component):
    values = ", ".join(f"{name}={getattr(value, 'name', value)}"
                       for name, value in _parameters(component))
    return f"{type(component).__name__}({values})"


def _halves(texts):
    """The texts in their order, as two of about the same length."""
    ends = list(itertools.accumulate(map(len, texts)))
    middle = bisect.bisect(ends, ends[-1] // 2) + 1
    return ["".join(half) for half in (texts[:middle], texts[middle:]) if half]


def _verilog_modules(rtlil_text):
    """Module name to Verilog text."""
    text = verilog._convert_rtlil_text(rtlil_text, write_verilog_opts=("-noattr",))
    return {match[1]: _tidy(match[0]) for match in
            re.finditer(r"(?ms)^module \\?([\w$]+).*?^endmodule$", text)}


def _tidy(text):
    """Readable names for the writer's own registers; no copies of the fields of a layout."""
    text = re.sub(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ", "run_once", text)
    text = re.sub(r"\\\$(\d+) ", r"_\1_", text)
    names = collections.Counter(re.findall(r"\\\S+[.\]]\S* ", text))
    copies = {name for name, count in names.items() if count == 2}
    lines = []
    for line in text.splitlines():
        match = re.match(r"  (?:wire (?:\[\d+:0\] )?|assign )(\\\S+ ) ?[;=]", line)
        if match is None or match[1] not in copies:
            lines.append(re.sub(r"\{ ([^{}]+) \}", _shorter_concatenation, line))
    return "\n".join(lines)


def _shorter_concatenation(match):
    """A concatenation with replications for repeated bits, as of a sign or of a mask."""
    items = []
    for item in match[1].split(", "):
        bits = re.fullmatch(r"(\\\S+ |[\w$]+)\s*\[(\d+)(?::(\d+))?\]", item)
        if bits is None:
            items.append((item, None))
        else:
            high, low = int(bits[2]), int(bits[3] or bits[2])
            items += [(bits[1], bit) for bit in range(high, low - 1, -1)]
    runs = [(item, len(list(group))) for item, group in itertools.groupby(items)]
    if len(runs) == len(items):
        return match[0]
    parts = []  # [name, high, low, count]
    for (name, bit), count in runs:
        follows = (parts and bit is not None and count == parts[-1][3] == 1
                   and parts[-1][0] == name and parts[-1][2] == bit + 1)
        if follows:
            parts[-1][2] = bit
        else:
            parts.append([name, bit, bit, count])
    return "{ " + ", ".join(_part(*part) for part in parts) + " }"


def _part(name, high, low, count):
    bits = "" if high is None else f"[{high}]" if high == low else f"[{high}:{low}]"
    return name + bits if count == 1 else f"{{{count}{{{name}{bits}}}}}"
