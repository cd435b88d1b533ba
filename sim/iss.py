"""The instruction-set simulator: real program words and memory words, a batch of images at once.

Instructions run one after another in the order of dispatch; every one acts on all images of the
batch, so that its cost in Python is paid once. Time, queues and waits do not exist here.
"""

import dataclasses
import functools

import numpy as np
import threadpoolctl

from bivit.compiler.expand import MachineError, expand
from bivit.hw.isa import Opcode
from bivit.sim import execute_matrix, execute_rows, execute_softmax, execute_vector
from bivit.sim.constants import Constants
from bivit.sim.machine import Machine
from bivit.sim.memory_state import MemoryState
from bivit.sim.observe import read_results

__all__ = ["EXECUTE", "InstructionSimulator", "IssResult", "MachineError"]

_BATCH_BYTES, _LARGEST_BATCH = 1 << 27, 45

EXECUTE = {
    Opcode.LOAD: execute_vector.load,
    Opcode.STEM: execute_vector.stem,
    Opcode.MM_BITS: execute_matrix.bits,
    Opcode.MM_SCORE: execute_matrix.score,
    Opcode.MM_ACC: execute_matrix.accumulate,
    Opcode.SOFTMAX: execute_softmax.softmax,
    Opcode.NORM_BITS: execute_vector.norm_bits,
    Opcode.NORM_CODES: execute_vector.norm_codes,
    Opcode.NORM_NUMBERS: execute_vector.norm_numbers,
    Opcode.ROWS_ADD: execute_rows.rows_add,
    Opcode.ROWS_OUT: execute_rows.rows_out,
    Opcode.MOVE: execute_rows.move,
    Opcode.OUTPUT: execute_vector.output,
    Opcode.FETCH: execute_vector.fetch,
    Opcode.STORE: execute_vector.store,
}
"""What runs an opcode: a function of the machine and the fields."""


@functools.cache
def _blas():
    """The matrix library: its threads cost more than they bring on products as small as these."""
    return threadpoolctl.ThreadpoolController()


@dataclasses.dataclass(frozen=True)
class IssResult:
    """What a run gives.

    Attributes
    ----------
    logits : int64 array (images, count)
        The numbers of the output stream.
    observed : dict of (number, key) to array (images, rows, columns)
        Results of each observed instruction, by its number in the order of dispatch and the keys
        of :func:`bivit.sim.observe.read_results`.
    """

    logits: np.ndarray
    observed: dict[tuple[int, str], np.ndarray]


class InstructionSimulator:
    """Runs one program; the memories keep their contents from run to run, and are zero at first.

    Parameters
    ----------
    arch : Arch
    program_words : sequence of int
        The program memory, words of ``INSTR_BITS`` bits.
    constants : dict of str to sequence of int
        Words of the memories in ``constant_order`` but the program, from address 0 on; what is
        not given is zero.
    external : bytes
        The image in external memory of a `streamed` target.
    """

    def __init__(self, arch, program_words, constants, external=b""):
        self.arch = arch
        self.machine = Machine(arch, Constants(arch, constants, external))
        self._execution = expand(arch, program_words)

    def run(self, streams, *, observe=(), batch=None) -> IssResult:
        """Run the program once for each image.

        Parameters
        ----------
        streams : list of bytes
            Input stream of each image (:func:`bivit.sim.stream.image_stream`).
        observe : collection of int
            Numbers, in the order of dispatch, of the instructions whose results are wanted.
        batch : int, optional
            Images in one pass. Only the first image of a pass finds what the image before left, so
            1 is exact also for a program that reads what it never wrote. Chosen by the size of the
            memories if not given.

        Raises
        ------
        MachineError
            Where the hardware would stop with an error code.
        """
        if any(executed.opcode is Opcode.STORE for executed in self._execution.instructions):
            batch = 1  # external memory, and what is fetched of it, is that of one image
        if batch is None:
            fitting = _BATCH_BYTES // MemoryState.bytes_per_image(self.arch)
            batch = max(1, min(_LARGEST_BATCH, fitting))
        with _blas().limit(limits=1, user_api="blas"):
            parts = [self._pass(streams[start:start + batch], frozenset(observe))
                     for start in range(0, len(streams), batch)]
        return IssResult(
            np.concatenate([logits for logits, _ in parts]),
            {key: np.concatenate([observed[key] for _, observed in parts])
             for key in parts[0][1]})

    def _pass(self, streams, observe):
        machine, observed = self.machine, {}
        machine.start(streams)
        for number, executed in enumerate(self._execution.instructions):
            opcode, fields = executed.opcode, executed.fields
            if opcode is Opcode.HALT:
                break
            machine.program_counter = executed.counter
            EXECUTE[opcode](machine, fields)
            if number in observe:
                observed |= {(number, key): result.copy() for key, result in read_results(
                    self.arch, opcode, fields, machine.state).items()}
        if self._execution.error:
            raise self._execution.error
        machine.finish()
        outputs = machine.outputs
        return (np.concatenate(outputs, axis=1) if outputs
                else np.zeros((len(streams), 0), np.int64)), observed
