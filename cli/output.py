"""How every command runs, speaks and ends: progress to stderr, result to stdout, exit status."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

import typer

from bivit.compiler.ir.errors import UserError

__all__ = ["CHECK_FAILED", "DONE", "INTERNAL", "STOPPED", "UNUSABLE", "execute", "plain",
           "refuse"]

DONE, CHECK_FAILED, UNUSABLE, INTERNAL, STOPPED = 0, 1, 2, 3, 130
"""Exit statuses: done; a check found a difference; the input was unusable; a defect of bivit;
Ctrl-C."""

OPTIONAL = {"torch": "train", "sklearn": "train", "PIL": "train",
            "optuna": "explore", "dask": "explore", "distributed": "explore"}
"""Modules that only some commands need, and the extra that brings them."""


LINE_SECONDS = 30.0
"""Without a terminal, progress is one line in so many seconds."""


class Progress:
    """A progress bar on stderr for each piece of work; without a terminal, a line now and then.

    Called as ``progress(done, total, text)`` from long-running functions.
    """

    def __init__(self, *, quiet: bool):
        from rich import progress
        from rich.console import Console

        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(),
            progress.MofNCompleteColumn(), progress.TimeElapsedColumn(),
            console=Console(stderr=True), disable=quiet)
        self._task, self._done, self._total = None, 0, None
        self._quiet, self._spoken = quiet, time.monotonic()

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *exception):
        self._bars.stop()

    def __call__(self, done: float, total: float, text: str = "") -> None:
        """Show that `done` of `total` steps are done; less than before begins a new bar."""
        if self._quiet:
            if time.monotonic() - self._spoken >= LINE_SECONDS:
                self._spoken = time.monotonic()
                print(f"bivit: {int(done)} of {int(total)}: {text}", file=sys.stderr, flush=True)
            return
        if self._task is None or total != self._total or done < self._done:
            self._task = self._bars.add_task(text, total=total)
        self._done, self._total = done, total
        self._bars.update(self._task, completed=done, description=text)


def execute(action: Callable, show: Callable, *, as_json: bool, debug: bool,
            passed: Callable = lambda result: True) -> None:
    """Run a command and end the process as the command line promises.

    Parameters
    ----------
    action : callable (progress) -> result
        The work. What it or its libraries print goes to stderr.
    show : callable (result, console) -> None
        Prints the result for people.
    as_json : bool
        Print the result as one JSON object instead.
    debug : bool
        Let exceptions through with their traceback.
    passed : callable (result) -> bool
        Whether the checks that the command made have passed.

    Raises
    ------
    typer.Exit
        Always.
    """
    try:
        with (contextlib.redirect_stdout(sys.stderr),
              Progress(quiet=not sys.stderr.isatty()) as progress):
            result = action(progress)
    except UserError as error:
        if debug:
            raise
        refuse(str(error), as_json=as_json)
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        refuse(f"{where}{error.strerror or error}", as_json=as_json)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in OPTIONAL:
            refuse(f"this command needs {error.name}, which is not installed: "
                   f"pip install 'bivit[{OPTIONAL[error.name]}]'", as_json=as_json)
        refuse(f"internal error ({type(error).__name__}: {error}); run again with --debug for the "
               "traceback and report it", as_json=as_json, status=INTERNAL)
    try:
        _print(result, show, as_json=as_json)
    except OSError as error:
        with open(os.devnull, "w") as nothing:  # what is left in the buffer has nowhere to go
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # the reader may have seen enough
            refuse(f"standard output: {error.strerror}", as_json=False)
    raise typer.Exit(DONE if passed(result) else CHECK_FAILED)


def _print(result, show, *, as_json):
    if as_json:
        print(json.dumps(plain(result), allow_nan=False))
    else:
        from rich.console import Console

        class Output(Console):
            def on_broken_pipe(self):
                raise BrokenPipeError  # else the process would end with status 1

        width = None if sys.stdout.isatty() else 100
        show(result, Output(highlight=False, width=width))
    sys.stdout.flush()


def refuse(sentence: str, *, as_json: bool, status: int = UNUSABLE) -> None:
    """Say on stderr (and with `as_json` as an object on stdout) why nothing was done; exit."""
    print(f"bivit: {' '.join(sentence.split())}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": sentence}))
    raise typer.Exit(status)


def plain(value):
    """`value` as JSON knows it: dataclasses to objects, arrays to lists, paths to text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name))
                for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, pathlib.Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return value.tolist()
    return value
