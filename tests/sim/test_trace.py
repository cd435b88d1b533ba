"""The trace: the rules of the Trace Event Format, and the same cycles as the report."""

import collections
import gzip
import json

import pytest

from bivit.compiler.build import load_build
from bivit.compiler.expand import expand
from bivit.hw.isa import FORMATS, AddSource, ASource, BSource, Destination, Opcode, SoftmaxMode
from bivit.sim.report import make_report
from bivit.sim.trace import trace_bytes

COMMON = {"ph", "name", "pid", "tid"}
KEYS = {"M": COMMON | {"args"}, "X": COMMON | {"cat", "ts", "dur", "args"},
        "s": COMMON | {"cat", "id", "ts"}, "f": COMMON | {"cat", "id", "ts", "bp"},
        "C": COMMON | {"ts", "args"}}
"""What each phase of an event has, all of it required."""


@pytest.fixture(scope="module")
def traced(digits_build):
    report = make_report(digits_build)
    return report, json.loads(trace_bytes(report, compress=False))


def check_format(trace):
    """What the viewers ask of a trace."""
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    slices, flows, named = collections.defaultdict(list), collections.defaultdict(dict), set()
    for event in trace["traceEvents"]:
        assert set(event) == KEYS[event["ph"]]
        assert isinstance(event["name"], str) and isinstance(event["pid"], int)
        if event["ph"] == "M":
            named.add((event["name"], event["tid"]))
            continue
        assert type(event["ts"]) is int and event["ts"] >= 0
        if event["ph"] == "X":
            assert type(event["dur"]) is int and event["dur"] > 0
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] == "C":
            assert all(type(value) in (int, float) for value in event["args"].values())
        else:
            assert event["ph"] not in flows[event["id"]]
            flows[event["id"]][event["ph"]] = event
    for track, found in slices.items():
        assert {("thread_name", track), ("thread_sort_index", track)} <= named
        for (_, end), (begin, _) in zip(sorted(found), sorted(found)[1:], strict=False):
            assert end <= begin, "slices of a track overlap and do not nest"
    for flow in flows.values():
        assert flow["s"]["ts"] < flow["f"]["ts"] and flow["f"]["bp"] == "e"
        for event in flow.values():  # an arrow begins and ends in a slice
            assert any(low <= event["ts"] < high for low, high in slices[event["tid"]])


def test_the_format(traced):
    check_format(traced[1])


@pytest.mark.parametrize("change, message", [
    (lambda event: event.update(ts=event["ts"] + 0.5), "int"),
    (lambda event: event.update(dur=event["dur"] + 10_000), "overlap"),
    (lambda event: event.pop("args"), "args")])
def test_a_broken_trace_is_seen(traced, change, message):
    trace = json.loads(json.dumps(traced[1]))
    change(next(event for event in trace["traceEvents"] if event["ph"] == "X"
                and event["cat"] == "MM_ACC"))
    with pytest.raises(AssertionError, match=message):
        check_format(trace)


def test_slices_are_the_steps(traced, digits_build):
    report, trace = traced
    tracks = {event["args"]["name"]: event["tid"] for event in trace["traceEvents"]
              if event["name"] == "thread_name"}
    units = report.figures["units"]
    assert set(tracks) == {text for name in units for text in (name, f"{name} waits for")}
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    for name, figures in units.items():
        own = [event for event in slices if event["tid"] == tracks[name]]
        assert sum(event["dur"] for event in own) == figures["busy"]
    build = load_build(digits_build)
    executed = expand(build.arch, build.words).instructions[:-1]
    steps = [event for event in slices if event["cat"] != "wait"]
    assert [event["args"]["step"] for event in steps] == list(range(len(executed)))
    for event, (opcode, fields, counter, _) in zip(steps, executed, strict=True):
        assert event["args"]["position"] == counter
        assert event["cat"] == event["args"]["opcode"] == opcode.name
        shown = {name for name in event["args"] if name in FORMATS[opcode]}
        assert shown == {name for name in FORMATS[opcode] if fields[name]}
        assert all(value in (fields[name], _choice(name, fields[name]))
                   for name, value in event["args"].items() if name in FORMATS[opcode])
    waits = collections.Counter()
    for event in trace["traceEvents"]:
        if event["ph"] in "sf":
            target = report.frame.steps[event["id"]]
            step = report.frame.steps[target.wait.source] if event["ph"] == "s" else target
            assert event["tid"] == tracks[step.unit.name] and step.pop <= event["ts"] < step.end
    for event in slices:
        if event["tid"] == tracks["MM waits for"]:
            waits[event["name"]] += event["dur"]
    frame = report.figures["array_cycles"]
    assert waits == {cause: frame[cause] for cause in (
        "load", "matrix results", "softmax", "vector", "dispatch") if frame[cause]}


def _choice(name, value):
    kinds = {"a_src": ASource, "b_src": BSource, "dst": Destination, "add_src": AddSource,
             "add2_src": AddSource, "mode": SoftmaxMode}
    return kinds[name](value).name if name in kinds else None


def test_the_curve_of_utilisation(traced):
    report, trace = traced
    points = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    width = points[1]["ts"] - points[0]["ts"]
    useful = sum(event["args"]["useful %"] / 100
                 * min(width, report.figures["cycles_per_image"] - event["ts"])
                 for event in points)
    assert useful == pytest.approx(report.figures["array_cycles"]["useful"], rel=1e-3)
    assert all(0 <= event["args"]["useful %"] <= 100 for event in points)


def test_equal_bytes_and_gzip(traced):
    report, trace = traced
    packed = trace_bytes(report, compress=True)
    assert packed == trace_bytes(report, compress=True)
    assert json.loads(gzip.decompress(packed)) == trace
    assert Opcode.HALT.name not in {event.get("cat") for event in trace["traceEvents"]}
