"""Write events of the RTL put back on blank memories, instruction by instruction."""

import numpy as np

from bivit.hw.memories import memories
from bivit.sim.memory_state import NUMBER_MEMORIES, MemoryState, unpack_numbers
from bivit.sim.observe import read_results

__all__ = ["Replay", "replayed_results"]

_BATCH = 64


class Replay:
    """Blank memories for a batch of images, on which one instruction after another is replayed.

    Parameters
    ----------
    arch : Arch
    images : int
    """

    def __init__(self, arch, images):
        self.arch = arch
        self._state = MemoryState(arch, images)
        self._widths = {name: size.width for name, size in memories(arch).items()}

    def results(self, opcode, fields, writes) -> dict[str, np.ndarray]:
        """What the writes of an instruction left of its results, (images, rows, columns).

        Parameters
        ----------
        opcode, fields
            The instruction.
        writes : dict of str to tuple of arrays
            For each memory, in time order: addresses (n,), masks (n, words) and, for each image,
            data (images, n, words); masks and data as 32-bit words, the lowest first.
        """
        touched = [(getattr(self._state, name), self._apply(name, *events))
                   for name, events in writes.items()]
        results = {key: result.copy() for key, result in read_results(
            self.arch, opcode, fields, self._state).items()}
        for memory, addresses in touched:
            memory[:, addresses] = 0
        return results

    def _apply(self, name, addresses, masks, data):
        """Merge the writes by address and put them into the memory; give the addresses."""
        words = {}
        for index, address in enumerate(addresses.tolist()):
            mask = masks[index]
            words[address] = words.get(address, 0) & ~mask | data[:, index] & mask
        memory, found = getattr(self._state, name), list(words)
        packed = np.stack([words[address] for address in found], axis=1).astype("<u4")
        bits = np.unpackbits(packed.view(np.uint8), axis=-1, bitorder="little",
                             count=self._widths[name])
        bits = bits.reshape(len(data), len(found), *memory.shape[2:], -1)
        numbers = name in NUMBER_MEMORIES
        memory[:, found] = unpack_numbers(bits, True) if numbers else bits[..., 0]
        return found


def replayed_results(arch, instructions, events) -> dict[tuple[int, str], np.ndarray]:
    """Results (images, rows, columns) of those `instructions` that wrote anything in every image.

    By number in the order of dispatch and key of :func:`bivit.sim.observe.read_results`.

    Parameters
    ----------
    arch : Arch
    instructions : dict of int to tuple (Opcode, dict of str to int)
        By number.
    events : list of dict of str to structured array
        Write events of each image by memory, as :class:`bivit.sim.rtl.RunResult` has them.
    """
    if len(events) > _BATCH:
        return _joined(replayed_results(arch, instructions, events[start:start + _BATCH])
                       for start in range(0, len(events), _BATCH))
    grouped = [_by_instruction(image) for image in events]
    if not all(_alike(grouped[0], other) for other in grouped[1:]):
        return _joined(replayed_results(arch, instructions, [image]) for image in events)
    replay, results = Replay(arch, len(grouped)), {}
    for number, (opcode, fields) in instructions.items():
        if number in grouped[0]:
            writes = {name: (first["addr"], first["we"],
                             np.stack([image[number][name]["data"] for image in grouped]))
                      for name, first in grouped[0][number].items()}
            results |= {(number, key): result
                        for key, result in replay.results(opcode, fields, writes).items()}
    return results


def _joined(parts):
    """Results of several groups of images, where all have them."""
    parts = list(parts)
    return {key: np.concatenate([part[key] for part in parts]) for key, result in parts[0].items()
            if all(key in part and part[key].shape[1:] == result.shape[1:] for part in parts)}


def _by_instruction(image):
    """Events of one image: number of the instruction to memory to events, in time order."""
    found = {}
    for name, events in image.items():
        if not len(events):
            continue
        events = events[np.argsort(events["tag"], kind="stable")]
        tags, starts = np.unique(events["tag"], return_index=True)
        for tag, part in zip(tags.tolist(), np.split(events, starts[1:]), strict=True):
            found.setdefault(tag, {})[name] = part
    return found


def _alike(one, other):
    """Whether two images write the same places in the same order."""
    return one.keys() == other.keys() and all(
        one[number].keys() == other[number].keys() and all(
            np.array_equal(events["addr"], other[number][name]["addr"])
            and np.array_equal(events["we"], other[number][name]["we"])
            for name, events in written.items()) for number, written in one.items())
