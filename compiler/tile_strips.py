"""Sums of rows in strips that are alike: the same instructions for every line of an image."""

import dataclasses

import numpy as np

from bivit.compiler.nests import starts_cleanly
from bivit.compiler.strips import Strips, terms_of
from bivit.hw.isa import Opcode

__all__ = ["emit_strips"]


def emit_strips(rows, strips: Strips) -> bool:
    """Emit an operation on rows strip by strip; False, and nothing, if its strips differ or tokens
    lie in segments."""
    placed = rows.rows, *(part.source.rows for part in rows.parts)
    if len(rows.passes) > 1 or any(tokens.segments > 1 for tokens in placed):
        return False
    alike = all(np.array_equal(part.index, rows.same) for part in rows.parts)
    if alike and not strips.aligned(rows.arch.rows):
        _emit_blocks(rows)
        return True
    size = strips.tokens
    if _is_small(rows) and all(part.source.rows.tokens != rows.tokens for part in rows.parts):
        size = rows.tokens
    steps = _steps(rows, size)
    if steps is None:
        return False
    _filled(rows, True)
    for number, begin in enumerate(range(0, rows.tokens, size)):
        rows.tiler.iteration = number
        for step in steps:
            step.emit(rows, number)
        _write(rows, begin, begin + size)
    _fill(rows, size)
    rows.tiler.part = None
    return True


def _is_small(rows):
    """Whether all tokens have room in the sums at once."""
    return rows.tokens <= rows.arch.sums_depth // rows.tiles * rows.arch.post_rows


def _emit_blocks(rows):
    """Token by token: each block like the others, also the rows of the last that hold none."""
    arch, (one,) = rows.arch, rows.passes
    filled = all(part.source.filled for part in rows.parts)
    rows.sum_tiles = one.tiles
    _filled(rows, filled or rows.tokens % arch.rows == 0)
    for block, begin in enumerate(range(0, rows.tokens, arch.rows)):
        rows.tiler.iteration = rows.tiler.turn(rows.rows, block)
        end = min(begin + arch.rows, rows.tokens)
        count = arch.rows if filled else end - begin
        for number, part in enumerate(one.parts):
            index = np.minimum(np.arange(begin, begin + count), rows.tokens - 1)[:, None]
            nest = rows.nests(part, index[:1])[0]
            loop = ((count, 1, 1), *[(1, 0, 0)] * 3) if count > 1 else ()
            rows.add(part, [dataclasses.replace(nest, loops=loop)], first=number == 0)
        for result in one.results:
            rows.write(result, begin, end, one.tiles, count)


@dataclasses.dataclass(frozen=True)
class _Step:
    """The same ROWS_ADD in some strips."""

    part: object
    nests: list
    first: bool
    begin: int
    moved: tuple[int, ...]
    label: tuple

    def emit(self, rows, strip):
        """For a strip, if it is one of them."""
        if not 0 <= strip - self.begin < len(self.moved):
            return
        moved = self.moved[strip - self.begin]
        for number, nest in enumerate(self.nests):
            rows.tiler.part = self.label, number
            rows.add(self.part, [dataclasses.replace(nest, row=nest.row + moved)],
                     first=self.first)


def _steps(rows, size):
    """What each strip adds, that which starts the sums first; None if strips differ."""
    found, (one,) = [], rows.passes
    rows.sum_tiles = one.tiles
    for number, part in enumerate(one.parts):
        terms = terms_of(part.index, rows.row_numbers[id(part.source)], size)
        if terms is None:
            return None
        found += [_Step(part, rows.best(part, term.index), False, term.begin, term.moved,
                        (number, place)) for place, term in enumerate(terms)]
    start = next((step for step in found if _starts(step, rows.tokens // size, size)), None)
    if start is None:
        return None
    return [dataclasses.replace(start, first=True), *(step for step in found if step is not start)]


def _starts(step, strips, size):
    """Whether a step can start the sums of all strips."""
    if len(step.moved) < strips or not starts_cleanly(step.nests):
        return False
    return len({row for nest in step.nests for row, _ in nest.events()}) == size


def _filled(rows, filled):
    """Say of the results whether rows that hold no token are written."""
    one, = rows.passes
    results = tuple(dataclasses.replace(result, stored=dataclasses.replace(
        result.stored, filled=filled)) for result in one.results)
    rows.passes = [dataclasses.replace(one, results=results)]
    for result in results:
        rows.tiler.stored[result.name] = result.stored


def _write(rows, begin, end):
    one, = rows.passes
    for number, result in enumerate(one.results):
        rows.tiler.part = "result", number
        rows.write(result, begin, end, one.tiles)


def _fill(rows, size):
    """Write the rows behind the last token, too, with numbers that mean nothing."""
    (one,), count = rows.passes, -rows.tokens % rows.arch.rows
    block, row = rows.rows.place(rows.tokens - 1, rows.arch.rows)
    for number, result in enumerate(one.results):
        for done in range(0, count, size):
            rows.tiler.part = "behind", number, done
            own = min(size, count - done)
            rows.tiler.emit(
                Opcode.ROWS_OUT, rows.layer, dst_addr=result.stored.at(block),
                dst_row=row + 1 + done, dst_stride=result.stored.block_words, count=own,
                sum_tiles=one.tiles, param_addr=result.params, **result.fields)
