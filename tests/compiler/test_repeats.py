"""Straight lines that come again and again are called: the same runs, in fewer lines."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bivit.compiler.code import Code, Line
from bivit.compiler.repeats import call_repeats
from bivit.hw.isa import Opcode

RETURN, HALT = Line(Opcode.RETURN), Line(Opcode.HALT)


def move(number):
    return Line(Opcode.MOVE, {"src_addr": number})


def loop(number, count=2):
    return [Line(Opcode.LOOP, {"count": count}), move(number),
            Line(Opcode.END, {"used": 0, "more": 1}), Line(Opcode.END, {"used": 0, "more": 0})]


def call(target, used=0):
    return Line(Opcode.SET, {"used": used, "call": 1, "target": target})


def run(lines):
    """What the sequencer executes, line by line, and the deepest stack."""
    place, stack, deepest = 0, [], 0
    while True:
        line = lines[place]
        yield place, line
        deepest = max(deepest, len(stack))
        if line.opcode is Opcode.HALT:
            assert not stack and deepest <= 3
            return
        if line.opcode is Opcode.RETURN:
            place = stack.pop()
        elif line.opcode is Opcode.LOOP:
            place += 1
            stack.append([place, line.fields["count"]])
        elif line.opcode is Opcode.END and not line.fields["more"]:
            stack[-1][1] -= 1
            place = stack[-1][0] if stack[-1][1] else stack.pop() and place + 1
        elif line.fields.get("call"):
            stack.append(place + 1)
            place = line.fields["target"]
        else:
            place += 1


def code_of(main, subroutines):
    """A program and its steps; moves are numbered as they run."""
    lines, steps = (*main, HALT, *subroutines), []
    for place, line in run(lines):
        steps.append((place, len(steps) if line.opcode is Opcode.MOVE else None))
    return Code(lines, tuple(steps))


def moves(code):
    """Fields and numbers of what moves, in the order of the steps."""
    return [(code.lines[place].fields["src_addr"], index) for place, index in code.steps
            if index is not None]


def check(code):
    """The shorter program runs as its steps say, and does the same."""
    shorter = call_repeats(code)
    assert [place for place, _ in run(shorter.lines)] == [place for place, _ in shorter.steps]
    assert moves(shorter) == moves(code)
    assert len(shorter.lines) <= len(code.lines)
    return shorter


def test_a_sequence_becomes_a_subroutine():
    main = [*map(move, (1, 2, 3, 9, 1, 2, 3, 1, 2, 3))]
    shorter = check(code_of(main, ()))
    assert shorter.lines == (call(5), move(9), call(5), call(5), HALT, *map(move, (1, 2, 3)),
                             RETURN)


def test_calls_and_what_is_called_move():
    same = [move(1), call(12), move(2)]
    shorter = check(code_of([*same, move(7), *same, *same, call(12)], [move(5), RETURN]))
    assert shorter.lines == (call(8), move(7), call(8), call(8), call(6), HALT, move(5), RETURN,
                             move(1), call(6), move(2), RETURN)


def test_loops_stay():
    main = [*loop(1), *loop(1), *loop(1), *loop(1)]
    code = code_of(main, ())
    assert call_repeats(code) is code


PIECES = st.one_of(st.integers(0, 2).map(lambda number: [move(number)]),
                   st.integers(0, 1).map(loop),
                   st.tuples(st.integers(0, 1), st.integers(0, 1)))
"""A move, a loop, or a call of one of two subroutines with other registers."""


@given(st.lists(PIECES, max_size=40))
@example([[move(0)]] * 20)
@settings(max_examples=200, deadline=None)
def test_the_same_runs(pieces):
    length = 1 + sum(1 if isinstance(piece, tuple) else len(piece) for piece in pieces)
    main = [line for piece in pieces for line in (
        [call(length + 6 * piece[0], piece[1])] if isinstance(piece, tuple) else piece)]
    check(code_of(main, [move(8), *loop(6), RETURN, move(9), RETURN]))
