"""When regions are in use: by instruction in a straight program, by loop in one with loops."""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.accesses import accesses
from bivit.compiler.structures import Pipeline, Plan, Straight
from bivit.hw.arch import Arch

__all__ = ["Lifetimes", "lifetimes_of_loops", "lifetimes_of_order"]


@dataclasses.dataclass(frozen=True)
class Lifetimes:
    """First and last moment at which each region is in use, by its name.

    Parameters
    ----------
    follows : callable (region name, region name) -> bool
        Whether the second may take the place of the first in the moment in which that ends and
        itself begins.
    """

    lives: dict[str, tuple[int, int]]
    follows: object = lambda first, second: False


def lifetimes_of_order(plan: Plan) -> Lifetimes:
    """A moment is an instruction in canonical order."""
    return Lifetimes(_lives(plan, range(len(plan.instructions))))


def lifetimes_of_loops(plan: Plan, parts: Sequence[Straight | Pipeline], spread: Plan,
                       arch: Arch) -> Lifetimes:
    """A moment is a part of the program; all of a loop happens at the same time.

    Parameters
    ----------
    spread : Plan
        `plan` with every region in a place of its own.
    """
    moments, iterations = {}, {}
    for moment, part in enumerate(parts):
        if isinstance(part, Straight):
            moments |= dict.fromkeys(part.instructions, moment)
            continue
        for stream in part.streams:
            moments |= dict.fromkeys(stream.indices, moment)
            iterations |= {index: iteration for iteration, index in stream.iterations()}
    lives = _lives(plan, moments)
    return Lifetimes(lives, _Follows(plan, spread, arch, moments, iterations, lives))


def _lives(plan, moments):
    lives = {}
    for index, instruction in enumerate(plan.instructions):
        for _, address in instruction.addresses():
            now = moments[index]
            first, last = lives.get(address.region, (now, now))
            lives[address.region] = min(first, now), max(last, now)
    return lives


class _Follows:
    """Whether a region can be written over, block by block, by the one that comes next.

    Each word must have been used for the last time no later than in the iteration in which the
    next region uses it first, by operations that come before.
    """

    def __init__(self, plan, spread, arch, moments, iterations, lives):
        self._spread, self._arch, self._lives = spread.instructions, arch, lives
        self._iterations = iterations
        self._regions = {region.name: region for region in plan.regions}
        self._users = {}  # region, moment -> instructions
        for index, instruction in enumerate(plan.instructions):
            for name, address in instruction.addresses() if index in iterations else ():
                base = self._spread[index].fields[name] - address.offset
                self._users.setdefault((address.region, moments[index]), {})[index] = base

    def __call__(self, first, second):
        moment = self._lives[first][1]
        before, behind = (self._users.get((name, moment), {}) for name in (first, second))
        if not before or not behind or max(before) >= min(behind):
            return False
        last = self._words(before, first, max)
        begin = self._words(behind, second, min)
        return all(last.get(word, -1) <= iteration for word, iteration in begin.items())

    def _words(self, users, region, choose):
        """The last (or first) iteration that touches each word of a region."""
        found, region = {}, self._regions[region]
        for index, base in users.items():
            instruction, iteration = self._spread[index], self._iterations[index]
            touched = accesses(self._arch, instruction.opcode, instruction.fields)
            for memory, words in (*touched.reads, *touched.writes, *touched.updates):
                if memory == region.memory:
                    for word in words:
                        if 0 <= word - base < region.words:
                            best = found.get(word - base, iteration)
                            found[word - base] = choose(best, iteration)
        return found
