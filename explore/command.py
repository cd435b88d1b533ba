"""``bivit explore``: from a space or a goal to records, pictures and a target."""

from pathlib import Path

from bivit.explore.compiled import report_of
from bivit.explore.confirm import confirm_designs
from bivit.explore.costs import modelled
from bivit.explore.files import target_toml, write_csv, write_json
from bivit.explore.front import front_of, spread, title
from bivit.explore.goal import Goal, space_of, verdict
from bivit.explore.networks import check_networks, prepare, variant_of
from bivit.explore.page import page_html
from bivit.explore.search import search
from bivit.explore.space import ExploreError
from bivit.explore.space_file import load_space
from bivit.explore.store import Store
from bivit.explore.workers import workers_of
from bivit.hw.devices import DEVICES, RESOURCES

__all__ = ["run"]


def run(output, *, file=None, goal: Goal | None = None, workers: int = 0,
        scheduler: str | None = None, storage: str | None = None, confirm: int = 0,
        progress=None) -> dict:
    """Explore a space, or look for a goal.

    Parameters
    ----------
    output : path
        Folder of the results; a run of the same space that was stopped goes on there.
    file : path, optional
        The space; without it, `goal` is looked for.
    workers : int
        Processes; 0: this one.
    scheduler : str, optional
        Address of a Dask cluster instead.
    storage : str, optional
        URL of Optuna's storage; ``explore.db`` in the folder if not given.
    confirm : int
        Designs of the front that are built, simulated and synthesised.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        ``designs``, ``done``, ``refused`` (their numbers), ``front`` (records), ``chosen`` (number
        or None), ``verdict`` (a sentence if nothing was found), ``confirmed``, ``files``.

    Raises
    ------
    ExploreError
        In one sentence, if the space cannot be explored or nothing in it fits its devices.
    """
    progress = progress or (lambda done, total, text="": None)
    space = load_space(file) if goal is None else space_of(goal)
    check_networks(space)
    _check_modelled(space)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ExploreError(f"{folder} is a file; name another output folder")
    folder.mkdir(parents=True, exist_ok=True)

    def tell(done, total, records):
        progress(done, total, _news(records, space))

    with workers_of(space, workers, scheduler) as pool:
        store = Store(storage or f"sqlite:///{folder / 'explore.db'}", space)
        records = search(space, store, pool, tell)
    front = front_of(records, space)
    chosen = front[0] if front else None
    result = {
        "space": space.where, "objectives": list(space.objectives),
        "constraints": space.constraints, "designs": len(records),
        "done": sum(record["status"] == "done" for record in records),
        "refused": sum(record["status"] == "refused" for record in records),
        "front": front, "chosen": chosen and chosen["number"],
        "verdict": None if front else verdict(records, space), "confirmed": []}
    files = {name: folder / f"explore.{name}" for name in ("json", "csv", "html")}
    write_csv(files["csv"], records, space)
    write_json(files["json"], result | {"records": records})
    report = chosen and report_of(chosen, prepare(variant_of(chosen["design"], space)).graph)
    files["html"].write_text(page_html(result, records, space, report))
    if chosen:
        files["target"] = folder / "target.toml"
        files["target"].write_text(target_toml(
            chosen, f"{title(chosen)} of {space.where}: {chosen['interval']:,} cycles an image"))
    if not any(_fits(record) for record in records):
        raise ExploreError(f"{space.where}: {result['verdict']}")
    if confirm and front:
        result["confirmed"] = confirm_designs(spread(front, confirm), space, folder, progress)
    return result | {"files": {name: str(path) for name, path in files.items()}}


def _check_modelled(space):
    """Objectives and constraints whose resources no model knows are refused before the search."""
    for name in (*space.objectives, *space.constraints):
        for device in space.hardware["device"]:
            if name in RESOURCES and (reason := modelled(DEVICES[device])):
                raise ExploreError(f"{space.where}: {name} is not known on {device}, since {reason}"
                                   "; take array_luts, memory_kbit or device_share")


def _fits(record):
    return record["status"] == "done" and not any(
        one["constraint"] in RESOURCES for one in record["broken"])


def _news(records, space):
    """The front as it grows, in a line."""
    front, first = front_of(records, space), space.objectives[0]
    refused = sum(record["status"] == "refused" for record in records)
    best = f"; {first} {front[0][first]:,.6g}" if front else ""
    return f"front {len(front)}{best}; {refused} refused"
