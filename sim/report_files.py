"""Files that show a report: the page and the trace."""

from pathlib import Path

from bivit.compiler.ir.errors import UserError
from bivit.sim.page import page_html
from bivit.sim.report import make_report
from bivit.sim.trace import trace_bytes

__all__ = ["ReportFileError", "report_with_files"]

_TRACE_ENDINGS = (".json", ".json.gz")


class ReportFileError(UserError):
    """A file that cannot be written, or that nobody asked to replace."""


def report_with_files(folder, *, html: Path | None = None, trace: Path | None = None,
                      overwrite: bool = False) -> dict:
    """:func:`bivit.sim.report.report`, and files made from it.

    Parameters
    ----------
    html : path, optional
        The page (:func:`bivit.sim.page.page_html`).
    trace : path, optional
        The trace for Perfetto, ``.json`` or ``.json.gz``.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    dict
        Also ``html`` and ``trace``, the paths of the files that were written.

    Raises
    ------
    UserError
        Before anything is written, if a file is there or its place is not usable.
    """
    wanted = {name: Path(path) for name, path in (("html", html), ("trace", trace)) if path}
    for path in wanted.values():
        _check(path, Path(folder), overwrite)
    if len(set(wanted.values())) < len(wanted):
        raise ReportFileError(f"{html} cannot be both page and trace; name two files")
    compress = str(trace).endswith(".gz")
    if trace and not str(trace).endswith(_TRACE_ENDINGS):
        raise ReportFileError(f"{trace} does not say what a trace is; let it end with "
                              f"{' or '.join(_TRACE_ENDINGS)}")
    report = make_report(folder)
    for name, path in wanted.items():
        content = (page_html(report).encode() if name == "html"
                   else trace_bytes(report, compress=compress))
        with path.open("wb" if overwrite else "xb") as file:
            file.write(content)
    return report.figures | {name: str(path) for name, path in wanted.items()}


def _check(path, folder, overwrite):
    if path.is_dir():
        raise ReportFileError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ReportFileError(f"{path.parent} is no folder; make it, or name another file than "
                              f"{path}")
    if path.exists() and not overwrite:
        raise ReportFileError(f"{path} is there already; name another file or overwrite it "
                              "(--overwrite)")
    if folder.resolve() in path.resolve().parents:
        raise ReportFileError(f"{path} lies in the build folder, which holds what the compiler "
                              "wrote and nothing else; name a file elsewhere")
