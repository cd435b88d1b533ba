"""Results of flows in the cache, by the hash of all that they depend on."""

import gzip
import hashlib
import json
import os
import pathlib
import shutil
import tempfile

from bivit.hw.cache import cache_folder

__all__ = ["Store", "work_folder"]


class Store:
    """One entry of the cache: a small result, and the netlist that comes with it if there is one.

    Parameters
    ----------
    kind : str
        What it is of.
    parts
        All that the result depends on; their ``repr`` is hashed.
    """

    def __init__(self, kind: str, *parts):
        self.key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
        self.folder = cache_folder() / f"{kind}-{self.key}"

    def read(self) -> dict | None:
        """The result, or None."""
        try:
            return json.loads((self.folder / "result.json").read_text())
        except FileNotFoundError:
            return None

    def write(self, result: dict, file: pathlib.Path | None = None) -> None:
        """Keep a result and a file; the entry appears whole or not at all."""
        cache_folder().mkdir(parents=True, exist_ok=True)
        made = pathlib.Path(tempfile.mkdtemp(prefix="building-", dir=cache_folder()))
        try:
            (made / "result.json").write_text(json.dumps(result))
            if file is not None:
                with file.open("rb") as source, gzip.open(made / "file.gz", "wb", 1) as sink:
                    shutil.copyfileobj(source, sink)
            os.replace(made, self.folder)
        except OSError:
            if not (self.folder / "result.json").exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def unpack(self, target: pathlib.Path) -> None:
        """Write the file that was kept to `target`."""
        with gzip.open(self.folder / "file.gz", "rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def work_folder() -> tempfile.TemporaryDirectory:
    """A folder to work in, beside the results."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f"building-{os.getpid()}-", dir=cache_folder(),
                                       ignore_cleanup_errors=True)
