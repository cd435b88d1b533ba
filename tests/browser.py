"""A headless browser, driven over its debugging pipe; needs nothing but Chromium itself."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

import pytest

__all__ = ["Page", "browser"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60
"""Seconds that anything may take."""


@contextlib.contextmanager
def browser(scratch):
    """A function that opens a URL as a :class:`Page`; the test is skipped without a browser.

    Parameters
    ----------
    scratch : pathlib.Path
        Folder for the browser's own files.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    to_browser, from_browser = os.pipe(), os.pipe()

    def connect():  # the browser reads commands from 3 and writes answers to 4
        reading, writing = os.dup(to_browser[0]), os.dup(from_browser[1])
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    process = subprocess.Popen(
        [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-dev-shm-usage", "--window-size=1300,900", "--remote-debugging-pipe",
         f"--user-data-dir={scratch / 'profile'}"],
        preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL)
    os.close(to_browser[0])
    os.close(from_browser[1])
    connection = _Connection(to_browser[1], from_browser[0])
    try:
        yield lambda url: Page(connection, url)
        connection.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(to_browser[1])
        os.close(from_browser[0])


class _Connection:
    """Commands and answers, each a JSON object that ends with a zero byte."""

    def __init__(self, writing, reading):
        self._writing, self._reading = writing, reading
        self._number, self._rest, self.events = 0, b"", []

    def call(self, method, session=None, **parameters):
        """Send a command and give its result; events meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            data = os.read(self._reading, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


class Page:
    """A page in a tab of its own."""

    def __init__(self, connection, url):
        self._connection = connection
        target = connection.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = connection.call("Target.attachToTarget", targetId=target,
                                        flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method, **parameters):
        """A command of the debugging protocol for this page."""
        return self._connection.call(method, self._session, **parameters)

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"still not: {expression}"
            time.sleep(0.05)

    def _events(self, method):
        self.evaluate("new Promise((done) => setTimeout(done, 50))")  # what is on its way
        return [event["params"] for event in self._connection.events
                if event["method"] == method and event.get("sessionId") == self._session]

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and warnings and errors on the console."""
        return [*(event["exceptionDetails"]["exception"]["description"]
                  for event in self._events("Runtime.exceptionThrown")),
                *(event["entry"]["text"] for event in self._events("Log.entryAdded")
                  if event["entry"]["level"] in ("warning", "error")),
                *(str(event["args"]) for event in self._events("Runtime.consoleAPICalled")
                  if event["type"] in ("warning", "error"))]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, its own among them."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def mouse(self, kind, x, y, **more):
        """A mouse event at a place of the window."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
