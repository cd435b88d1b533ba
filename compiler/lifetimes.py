"""When regions are in use: by instruction in a straight program, by loop in one with loops."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bivit.compiler.code import Pipeline, Straight
from bivit.compiler.depend_kernel import turns_of_words
from bivit.compiler.structures import Plan
from bivit.compiler.touched import Touched

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


def lifetimes_of_loops(plan: Plan, parts: Sequence[Straight | Pipeline], touched: Touched,
                       where: Mapping[str, tuple[str, int, int]]) -> Lifetimes:
    """A moment is a part of the program; all of a loop happens at the same time.

    Parameters
    ----------
    touched : Touched
        What the instructions touch where every region has a place of its own.
    where : mapping
        These places: memory, first word, number of words.
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
    return Lifetimes(lives, _Follows(plan, touched, where, moments, iterations, lives))


def _lives(plan, moments):
    lives = {}
    for index, addresses in enumerate(plan.addresses):
        now = moments[index] if addresses else None
        for _, address in addresses:
            found = lives.get(address.region)
            if found is None:
                lives[address.region] = now, now
            elif not found[0] <= now <= found[1]:
                lives[address.region] = min(found[0], now), max(found[1], now)
    return lives


class _Follows:
    """Whether a region can be written over, block by block, by the one that comes next.

    Each word must have been used for the last time no later than in the iteration in which the
    next region uses it first, by operations that come before.
    """

    def __init__(self, plan, touched, where, moments, iterations, lives):
        self._touched, self._where, self._lives = touched, where, lives
        count = len(plan.instructions)
        owners = np.repeat(np.arange(count), np.diff(touched.first))
        walks = np.array([(instruction.operation, instruction.group)
                          for instruction in plan.instructions])
        _, ranks = np.unique(walks, axis=0, return_inverse=True)
        times = np.full(count, -1)
        times[list(iterations)] = [moments[index] for index in iterations]
        turns = np.zeros(count, np.int64)
        turns[list(iterations)] = list(iterations.values())
        self._ranks, self._times, self._turns = ranks[owners], times[owners], turns[owners]
        self._known = {}

    def __call__(self, first, second):
        moment = self._lives[first][1]
        before, behind = (self._uses(name, moment) for name in (first, second))
        if before is None or behind is None or before[1] >= behind[0]:
            return False
        return bool((before[3] <= behind[2]).all())

    def _uses(self, region, moment):
        """First and last walk of an operation through its blocks that uses a region in a moment, by
        its rank; by word the first iteration and the last one; or None."""
        key = region, moment
        if key not in self._known:
            memory, start, words = self._where[region]
            touched = self._touched
            rows = np.flatnonzero(
                (touched.low >= start) & (touched.low < start + words) & (self._times == moment)
                & np.isin(touched.memories, [number for number, name in enumerate(touched.names)
                                             if name == memory]))
            self._known[key] = None if not len(rows) else (
                self._ranks[rows].min(), self._ranks[rows].max(), *turns_of_words(
                    touched.low[rows] - start, touched.high[rows] - start, self._turns[rows],
                    words))
        return self._known[key]
