"""Sums over rows of numbers: products with a scale, added, compared or folded into the sums.

Stages count from the counters of the walk. The NORM word comes in stage 2: in a fold it says which
number is read next. The address of the numbers is on the port in stage 3, they are there in stage
5 and each at its place in stage 6; GELU takes 3 cycles, the product is there in stage 10, the fold
and the reduction after it. The sum is addressed in the cycle before its change.
"""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.gelu import GELU_CYCLES, Gelu
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.norm import PARAMETER
from bivit.hw.blocks.run_walk import RunWalk, run_steps
from bivit.hw.blocks.sums import update_layout
from bivit.hw.blocks.walk import STEP_STAGE
from bivit.hw.choices import FOLD_STEP
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import NumberSource, Opcode, RowOperation
from bivit.hw.memories import MEM_LATENCY, SCALE_BITS, memories

__all__ = ["RowAdder", "rows_add_timing", "settling_cycles"]

NUMBER_STAGE = STEP_STAGE + 1 + MEM_LATENCY
PRODUCT_STAGE = NUMBER_STAGE + 1 + GELU_CYCLES + 1


def fold_cycles(arch: Arch) -> int:
    """Registers in the sum of a word of products: two additions a cycle."""
    return -(-ceil_log2(arch.cols) // 2)


def settling_cycles(arch: Arch) -> int:
    """Cycles from the last step of ROWS_ADD to its change of the sums."""
    return PRODUCT_STAGE + fold_cycles(arch)


def rows_add_timing(arch: Arch, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of ROWS_ADD."""
    operation = RowOperation(fields["operation"])
    steps = run_steps(arch, fields, alone=bool(fields["gelu"]),
                      reduces=operation is RowOperation.ADD)
    return steps, steps + settling_cycles(arch)


class RowAdder(wiring.Component):
    """Runs ROWS_ADD, a step of its walk a cycle; the next one may follow in the next cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction
    last : the last step is in stage 0
    done : the last sum is written
    settled : nothing is left to be done after this cycle
    reading : an instruction is not done: the read ports are wanted
    norm_addr, address : of what is read
    norm_data, resid_data, vmem_data : two cycles later
    sums_addr, update : change of the sums
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "start": In(1),
            "fields": In(layout_of(Opcode.ROWS_ADD)),
            "last": Out(1),
            "done": Out(1),
            "settled": Out(1),
            "reading": Out(1),
            "norm_addr": Out(16),
            "norm_data": In(sizes["norm"].width),
            "address": Out(16),
            "resid_data": In(sizes["resid"].width),
            "vmem_data": In(sizes["vmem"].width),
            "sums_addr": Out(sizes["sums"].address_bits),
            "update": Out(update_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        update_stage = settling_cycles(arch)
        walk = self._walk(m, platform)
        step = walk.step
        fields = Signal(layout_of(Opcode.ROWS_ADD), reset_less=True)
        with m.If(self.start):
            m.d.sync += fields.eq(self.fields)
        m.d.sync += self.norm_addr.eq(
            Mux(self.start, self.fields.param_addr,
                Mux(walk.last_chunk, Mux(walk.last_tile, fields.param_addr, self.norm_addr + 1),
                    self.norm_addr)))
        control = {name: delayed(m, fields[name], STEP_STAGE, name=name)
                   for name in ("src", "operation", "gelu", "first", "sum_tiles")}
        is_fold = control["operation"] == RowOperation.FOLD

        # Stage 2: which word of the row, which word of the sum.
        parameters = data.View(data.ArrayLayout(PARAMETER, arch.cols), self.norm_data)
        descriptor = data.View(FOLD_STEP, parameters[0].bias.as_unsigned()[:FOLD_STEP.size])
        next_tile = Mux(is_fold, descriptor.next_tile, ~step.first_tile)
        next_sum = Mux(is_fold, descriptor.next_sum, ~step.first_tile)
        present_offset, offset = Signal(16, reset_less=True), Signal(16)
        present_sum, sum_word = Signal(8, reset_less=True), Signal(8)
        m.d.comb += [
            offset.eq(Mux(step.first_tile & step.first_chunk, 0, present_offset)
                      + Mux(next_tile & step.first_chunk, arch.drain_cycles, 0)),
            sum_word.eq(Mux(step.first_tile & step.first_chunk, 0, present_sum)
                        + (next_sum & step.first_chunk)),
        ]
        m.d.sync += [present_offset.eq(offset), present_sum.eq(sum_word),
                     self.address.eq(step.address + step.group + offset)]
        starts = (control["first"] & step.starts_sum
                  & (~is_fold | step.first_tile | descriptor.next_sum))
        # Stages 3 and 4, and on to the sums.
        sum_base = Signal(8, reset_less=True)
        sum_address = Signal(8, reset_less=True)
        m.d.sync += [sum_base.eq(step.sum_group * control["sum_tiles"]),
                     sum_address.eq(sum_base + present_sum)]
        m.d.comb += self.sums_addr.eq(
            delayed(m, sum_address, update_stage - 1 - (STEP_STAGE + 2), name="sum_address"))

        products = self._products(m, platform, step, control, parameters)

        # The change of the sums.
        later = update_stage - STEP_STAGE
        rows = delayed(m, Mux(step.valid, step.lanes, 0), later, name="lanes", init=0)
        m.d.comb += [
            self.update.rows.eq(rows),
            self.update.start.eq(delayed(m, starts, later, name="starts")),
            self.update.maximum.eq(delayed(m, control["operation"] == RowOperation.MAX, later,
                                           name="maximum")),
            self.done.eq(delayed(m, step.last, later, name="last", init=0)),
        ]
        self._terms(m, products, step, is_fold, descriptor)
        return m

    def _walk(self, m, platform):
        """The walk, and how many instructions are not done."""
        walk = place(m, platform, "walk", RunWalk(self.arch))
        fields, plan = self.fields, walk.plan
        is_add = fields.operation == RowOperation.ADD
        m.d.comb += [
            walk.start.eq(self.start), self.last.eq(walk.last),
            plan.address.eq(fields.src_addr), plan.row.eq(fields.src_row),
            plan.stride.eq(fields.src_stride), plan.tiles.eq(fields.n_tiles),
            plan.sum_row.eq(fields.sum_row), plan.alone.eq(fields.gelu), plan.reduces.eq(is_add),
        ]
        for level, loop in enumerate(plan.levels):
            m.d.comb += [loop[name].eq(fields[f"{name}_{level}"])
                         for name in ("count", "blocks", "rows", "sums")]
        pending = Signal(range(settling_cycles(self.arch) + 3))
        m.d.sync += pending.eq(pending + self.start - self.done)
        m.d.comb += [self.reading.eq(pending != 0), self.settled.eq(pending == self.done)]
        return walk

    def _products(self, m, platform, step, control, parameters):
        """Stage 10: a product for each place of a word of sums, of numbers at their places."""
        arch = self.arch
        later = NUMBER_STAGE - STEP_STAGE
        words = Mux(delayed(m, control["src"], later, name="src_late") == NumberSource.VMEM,
                    self.vmem_data, self.resid_data)
        row_bits = arch.cols * arch.resid_bits
        before = delayed(m, words, 1, name="words")
        shift = delayed(m, step.shift, later, name="shift")
        previous = delayed(m, step.previous, later, name="previous")
        skip = delayed(m, step.skip, later, name="skip")
        broadcast = delayed(m, step.broadcast, later, name="broadcast")
        rows = Array([Mux(previous & (shift <= index), before.word_select(index, row_bits),
                          words.word_select(index, row_bits)) for index in range(arch.post_rows)])
        scales = delayed(m, Cat(parameter.scale for parameter in parameters),
                         PRODUCT_STAGE - 1 - STEP_STAGE, name="scales")
        uses_gelu = delayed(m, control["gelu"], PRODUCT_STAGE - 1 - STEP_STAGE, name="gelu_late")
        curve = [place(m, platform, f"gelu_{index}", Gelu(width=arch.resid_bits))
                 for index in range(arch.cols)]
        products = []
        for lane in range(arch.post_rows):
            turned, skipped = (Array([C((first + index) % arch.post_rows, 6)
                                      for index in range(arch.post_rows)])[shift]
                               for first in (lane, 2 * lane))
            numbers = Signal(row_bits, name=f"numbers_{lane}", reset_less=True)
            m.d.sync += numbers.eq(rows[Mux(broadcast, shift, Mux(skip, skipped, turned))])
            plain = delayed(m, numbers, GELU_CYCLES, name=f"numbers_{lane}")
            for index, gelu in enumerate(curve):
                if lane == 0:
                    m.d.comb += gelu.number.eq(numbers.word_select(index, arch.resid_bits))
                number = Mux(uses_gelu, gelu.result,
                             plain.word_select(index, arch.resid_bits).as_signed())
                product = Signal(signed(arch.resid_bits + SCALE_BITS),
                                 name=f"product_{lane}_{index}", reset_less=True)
                m.d.sync += product.eq(
                    number * scales.word_select(index, SCALE_BITS).as_signed())
                products.append(product)
        return products

    def _terms(self, m, products, step, is_fold, descriptor):
        """What each sum gets: its product, that of all rows of the step, or folded columns."""
        arch = self.arch
        cols, cycles = arch.cols, fold_cycles(arch)
        later = settling_cycles(arch) - STEP_STAGE
        fold, column = (delayed(m, value, later, name=name)
                        for name, value in (("is_fold", is_fold), ("column", descriptor.column)))
        fours = delayed(m, descriptor.fours, later, name="fours") if cols % 4 == 0 else C(0)
        reduce = delayed(m, step.reduce, later, name="reduce")
        chosen = delayed(m, step.rows, PRODUCT_STAGE - STEP_STAGE, name="rows")
        reduced = [None] * cols
        if arch.post_rows > 1:
            for index in range(cols):
                stages = _fold(m, [Mux(chosen[lane], product, 0)
                                   for lane, product in enumerate(products[index::cols])],
                               f"reduce_{index}")
                reduced[index] = delayed(m, stages[-1][0], cycles - len(stages) + 1,
                                         name=f"reduced_{index}")
        for lane in range(arch.post_rows):
            own = products[lane * cols:(lane + 1) * cols]
            stages = _fold(m, own, f"fold_{lane}")
            parts = stages[1] if cols % 4 == 0 else []
            parts = [delayed(m, part, cycles - 1, name=f"four_{lane}_{index}")
                     for index, part in enumerate(parts)]
            for index, product in enumerate(own):
                alone = delayed(m, product, cycles, name=f"alone_{lane}_{index}")
                folded = Mux(column == index, stages[-1][0], 0)
                if parts:
                    first = index - index % len(parts)
                    here = Cat(column == first + other for other in range(len(parts))).any()
                    folded = Mux(fours, Mux(here, parts[index % len(parts)], 0), folded)
                if arch.post_rows > 1:
                    alone = Mux(reduce, reduced[index], alone)
                m.d.comb += self.update.terms[lane * cols + index].eq(Mux(fold, folded, alone))


def _fold(m: Module, terms: list[Value], name: str) -> list[list[Value]]:
    """Sums of `terms`, four to one in a cycle: what there is after 0, 1, ... cycles."""
    stages = [terms]
    while len(terms) > 1:
        sums = []
        for index in range(0, len(terms), 4):
            total = sum(terms[index + 1:index + 4], terms[index])
            register = Signal(signed(len(terms[0]) + 2), name=f"{name}_{len(stages) - 1}_{index}",
                              reset_less=True)
            m.d.sync += register.eq(total)
            sums.append(register)
        stages.append(sums)
        terms = sums
    return stages
