"""Sums over rows of numbers: products with a scale, added, compared or folded into the sums.

Stages count from the counters of the walk. The NORM word comes in stage 2: in a fold it says which
number is read next. The address of the numbers is on the port in stage 3, they are there in stage
5 and alone in stage 6; GELU takes 3 cycles, the product is there in stage 10, the fold after it.
The sum is addressed in the cycle before its change.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.gelu import GELU_CYCLES, Gelu
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.norm import PARAMETER
from bivit.hw.blocks.sums import update_layout
from bivit.hw.blocks.walk import STEP, STEP_STAGE, split_row
from bivit.hw.choices import FOLD_STEP
from bivit.hw.emit import place
from bivit.hw.isa import NumberSource, Opcode, RowOperation, layout_of
from bivit.hw.memories import MEM_LATENCY, SCALE_BITS, memories

__all__ = ["RowAdder", "rows_add_timing"]

NUMBER_STAGE = STEP_STAGE + 1 + MEM_LATENCY
PRODUCT_STAGE = NUMBER_STAGE + 1 + GELU_CYCLES + 1


def fold_cycles(arch: Arch) -> int:
    """Registers in the sum of a word of products: two additions a cycle."""
    return -(-ceil_log2(arch.cols) // 2)


def rows_add_timing(arch: Arch, *, steps: int) -> tuple[int, int]:
    """Occupancy and completion of ROWS_ADD of `steps` words."""
    cycles = steps + PRODUCT_STAGE + fold_cycles(arch)
    return cycles, cycles


class RowAdder(wiring.Component):
    """Runs ROWS_ADD, a step a cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction; the walk starts in the same cycle
    last, done : the last sum is written
    last_word : the step in stage 0 is the last one of its row
    step : of the source
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
            "last_word": In(1),
            "step": In(STEP),
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
        arch, step = self.arch, self.step
        fields = Signal(layout_of(Opcode.ROWS_ADD), reset_less=True)
        with m.If(self.start):
            m.d.sync += fields.eq(self.fields)
        m.d.sync += self.norm_addr.eq(
            Mux(self.start, self.fields.param_addr,
                Mux(self.last_word, fields.param_addr, self.norm_addr + 1)))
        is_fold = fields.operation == RowOperation.FOLD
        update_stage = PRODUCT_STAGE + fold_cycles(arch)

        # Stage 2: which word of the row, which word of the sum.
        parameters = data.View(data.ArrayLayout(PARAMETER, arch.cols), self.norm_data)
        descriptor = data.View(FOLD_STEP, parameters[0].bias.as_unsigned()[:FOLD_STEP.size])
        next_tile = Mux(is_fold, descriptor.next_tile, ~step.first_word)
        next_sum = Mux(is_fold, descriptor.next_sum, ~step.first_word)
        group, lane = split_row(arch, step.row)
        present_offset, offset = Signal(16, reset_less=True), Signal(16)
        present_sum, sum_word = Signal(8, reset_less=True), Signal(8)
        m.d.comb += [
            offset.eq(Mux(step.first_word, 0, present_offset)
                      + Mux(next_tile, arch.drain_cycles, 0)),
            sum_word.eq(Mux(step.first_word, 0, present_sum) + next_sum),
        ]
        m.d.sync += [present_offset.eq(offset), present_sum.eq(sum_word),
                     self.address.eq(step.address + group + offset)]
        starts = fields.first & step.starts_sum & (~is_fold | step.first_word | next_sum)
        # Stages 3 and 4, and on to the sums.
        sum_row = Signal(8, reset_less=True)
        sum_address = Signal(8, reset_less=True)
        m.d.sync += [sum_row.eq(step.sum_row * fields.sum_tiles),
                     sum_address.eq(sum_row + present_sum)]
        m.d.comb += self.sums_addr.eq(
            delayed(m, sum_address, update_stage - 1 - (STEP_STAGE + 2), name="sum_address"))

        # Numbers, GELU, products.
        later = NUMBER_STAGE - STEP_STAGE
        words = Mux(fields.src == NumberSource.VMEM, self.vmem_data, self.resid_data)
        row_bits = arch.cols * arch.resid_bits
        rows = Array([words.word_select(index, row_bits) for index in range(arch.post_rows)])
        numbers = Signal(data.ArrayLayout(signed(arch.resid_bits), arch.cols), reset_less=True)
        m.d.sync += numbers.eq(rows[delayed(m, lane, later, name="lane")])
        scales = delayed(m, Cat(parameter.scale for parameter in parameters),
                         PRODUCT_STAGE - 1 - STEP_STAGE, name="scales")
        products = []
        for index in range(arch.cols):
            gelu = place(m, platform, f"gelu_{index}", Gelu(width=arch.resid_bits))
            product = Signal(signed(arch.resid_bits + SCALE_BITS), name=f"product_{index}",
                             reset_less=True)
            m.d.comb += [gelu.number.eq(numbers[index]), gelu.bypass.eq(~fields.gelu)]
            m.d.sync += product.eq(
                gelu.result * scales.word_select(index, SCALE_BITS).as_signed())
            products.append(product)
        folded = _fold(m, products)

        # The change of the sums.
        later = update_stage - STEP_STAGE
        column = delayed(m, descriptor.column, later, name="column")
        m.d.comb += [
            self.update.write.eq(delayed(m, step.valid, later, name="valid", init=0)),
            self.update.start.eq(delayed(m, starts, later, name="starts")),
            self.update.maximum.eq(fields.operation == RowOperation.MAX),
            self.done.eq(self.update.write & delayed(m, step.last, later, name="last")),
            self.last.eq(self.done),
        ]
        for index, product in enumerate(products):
            alone = delayed(m, product, fold_cycles(arch), name=f"product_{index}")
            m.d.comb += self.update.terms[index].eq(
                Mux(is_fold, Mux(column == index, folded, 0), alone))
        return m


def _fold(m: Module, terms: list[Value]) -> Value:
    """Sum of `terms`, four to one in a cycle; takes `fold_cycles`."""
    stage = 0
    while len(terms) > 1:
        sums = []
        for index in range(0, len(terms), 4):
            total = sum(terms[index + 1:index + 4], terms[index])
            register = Signal(signed(len(terms[0]) + 2), name=f"fold_{stage}_{index}",
                              reset_less=True)
            m.d.sync += register.eq(total)
            sums.append(register)
        terms, stage = sums, stage + 1
    return terms[0]
