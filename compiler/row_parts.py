"""What sums of rows are made of, and what is made of them."""

import dataclasses

import numpy as np

from bivit.compiler.structures import Address, Stored
from bivit.hw.choices import FOLD_STEP

__all__ = ["Part", "Pass", "Result", "fold_steps"]


@dataclasses.dataclass(frozen=True)
class Part:
    """Terms with the same source and the same scales.

    Parameters
    ----------
    source : Stored
    index : int array (tokens, taps)
        Token of the source, -1 for none.
    params : Address
        NORM words of the scales.
    steps : int
        Words of a source row, or steps of a FOLD.
    """

    source: Stored
    index: np.ndarray
    params: Address
    steps: int


@dataclasses.dataclass(frozen=True)
class Result:
    """One ROWS_OUT of every strip.

    Parameters
    ----------
    name : str
    stored : Stored
    params : Address
    fields : dict
    tile : int
        Where the tiles of the sums begin in those of the result.
    """

    name: str
    stored: Stored
    params: Address
    fields: dict
    tile: int = 0


@dataclasses.dataclass(frozen=True)
class Pass:
    """Sums and what is made of them.

    Parameters
    ----------
    tiles : int
        Words of sums of a row.
    parts : tuple of Part
    results : tuple of Result
    """

    tiles: int
    parts: tuple[Part, ...]
    results: tuple[Result, ...]


def fold_steps(arch, source, result, group: int):
    """Steps of a FOLD: source tile, outputs from the first one to the one behind the last,
    descriptor.

    Parameters
    ----------
    arch : Arch
    source, result : tuple of (first channel, count)
        Tiles of the operand and of the result.
    """
    place = {first + column: (tile, column) for tile, (first, count) in enumerate(result)
             for column in range(count)}
    steps, last = [], (0, 0)
    for tile, (first, count) in enumerate(source):
        outputs = range(first // group, (first + count - 1) // group + 1)
        fours = (group == 4 and arch.cols % 4 == 0 and count == arch.cols and first % 4 == 0
                 and place[outputs[0]][1] % len(outputs) == 0)
        for output in outputs[:1] if fours else outputs:
            word, column = place[output]
            steps.append((tile, (output, outputs[-1] + 1 if fours else output + 1),
                          FOLD_STEP.const({
                              "column": column, "next_tile": tile > last[0],
                              "next_sum": word > last[1], "fours": fours}).as_value().value))
            last = tile, word
    return steps
