"""The integer operations of a graph: legal shapes and kinds, and what each computes (NumPy).

A *kind* says how a tensor is held: ``pixels`` (uint8 image), ``codes`` (uint8 ``p`` for the
odd number ``2 p - 255``), ``bits`` (0/1 for -1/+1), ``attention`` (0/1 as themselves), ``dot``
(exact integer accumulators), ``scores`` (those in sixteenths with a bias, or masked), ``numbers``
(signed fixed point of at most 16 bits). The operations are described in ``docs/operations.md``.
"""

from bivit.compiler.ir.operation import Op, OpError, TensorType
from bivit.compiler.ir.ops_attention import ATTENTION
from bivit.compiler.ir.ops_bits import BITS
from bivit.compiler.ir.ops_numbers import NUMBERS
from bivit.compiler.ir.ops_products import PRODUCTS

__all__ = ["OPS", "Op", "OpError", "TensorType"]

OPS = PRODUCTS | ATTENTION | NUMBERS | BITS
"""Every operation that a checkpoint may hold, by name."""
