"""The image of the constants in external memory (``docs/memory.md``, section 2)."""

from collections.abc import Iterator

from bivit.compiler.structures import CompileError, Instruction, Segment
from bivit.hw.arch import Arch
from bivit.hw.blocks.fetch import port_beats
from bivit.hw.blocks.read_port import BEAT_ADDRESS_BITS, BURST_PAGE
from bivit.hw.isa import FORMATS, ConstantMemory, Opcode

__all__ = ["external_image", "fetches"]

_LONGEST = (1 << FORMATS[Opcode.FETCH]["words"]) - 1


def external_image(segments: tuple[Segment, ...], arch: Arch) -> tuple[dict[str, int], bytes]:
    """Segments behind each other, each word in whole beats.

    Returns
    -------
    tuple
        Number of the first beat by the name of a segment; the bytes.

    Raises
    ------
    CompileError
        If there are more beats than instructions can name.
    """
    first, parts, beats = {}, [], 0
    for segment in segments:
        count = port_beats(arch, segment.memory)
        size = count * arch.port_bits // 8
        first[segment.name] = beats
        parts.append(b"".join(word.to_bytes(size, "little") for word in segment.words))
        beats += count * len(segment.words)
        if beats > 1 << BEAT_ADDRESS_BITS:
            raise CompileError(
                f"layer {segment.layer}: the constants up to here take {beats} beats of "
                f"{arch.port_bits} bits and instructions name 2**{BEAT_ADDRESS_BITS}; raise "
                f"port_bits of target {arch.name}")
    image = b"".join(parts)
    return first, image + bytes(-len(image) % BURST_PAGE)


def fetches(arch: Arch, memory: str, beat: int, start: int, words: int,
            reader: Instruction) -> Iterator[Instruction]:
    """The instructions that bring `words` words from beat `beat` on to word `start` of a memory.

    They belong to the layer and the operation of `reader`.
    """
    beats = port_beats(arch, memory)
    for done in range(0, words, _LONGEST):
        yield Instruction(Opcode.FETCH, {
            "memory": ConstantMemory[memory.upper()].value, "ext_addr": beat + done * beats,
            "const_addr": start + done, "words": min(_LONGEST, words - done),
        }, reader.layer, operation=reader.operation)
