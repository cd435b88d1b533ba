"""The Pareto front of records, and designs spread over it."""

from bivit.explore.space import OBJECTIVES, Space
from bivit.explore.store import values_of

__all__ = ["front_of", "spread", "title"]


def front_of(records: list[dict], space: Space) -> list[dict]:
    """Records that keep all constraints and that no other one beats in every objective.

    In the order of the first objective, best first; of equal ones the first proposed.
    """
    signs = [1 if OBJECTIVES[name] == "minimize" else -1 for name in space.objectives]
    points = {}
    for record in sorted(records, key=lambda record: record["number"]):
        if record["status"] == "done" and not record["broken"]:
            values = zip(signs, values_of(record, space), strict=True)
            points.setdefault(tuple(sign * value for sign, value in values), record)
    found = []
    for point in sorted(points):  # nothing that comes later can beat what is found
        if not any(all(x <= y for x, y in zip(other, point, strict=True)) for other in found):
            found.append(point)
    return [points[point] for point in found]


def spread(front: list[dict], count: int) -> list[dict]:
    """So many records of a front, the first and the last among them."""
    if count >= len(front):
        return front
    if count == 1:
        return front[:1]
    return [front[round(index * (len(front) - 1) / (count - 1))] for index in range(count)]


def title(record: dict) -> str:
    """A design in a few words."""
    target = record.get("target") or record["design"]
    size = "x".join(str(target.get(name, "?")) for name in ("rows", "cols", "lanes"))
    return f"#{record['number']} {size} on {record['design']['device']}"
