"""The tables of ``docs/ablations.md`` from the figures of ``ablation.json``.

A section between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is replaced; the rest of the page
is written by hand. ``python benchmarks/ablation_page.py`` writes the page again.
"""

import json
import pathlib
import re
import statistics

from ablation_variants import CLAIMS, SHARED, VARIANTS

__all__ = ["differences", "sections", "verdict", "write_page"]

STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Runs to the factor of their standard error that bounds 95 % (Student's t)."""

ERRORS = {
    "bool": "bool (BiBERT): score ≥ 0",
    "optimum": "best bits and scale of all",
    "algorithm 1": "Algorithm 1, N = 5: v · (a ≥ v / 2)",
    "given share, scale": "a ≥ 0.25 · max, with scale",
    "fitted share, scale": "a ≥ λ · max with λ fitted, with scale",
    "given share": "a ≥ 0.25 · max, without scale",
    "fitted share": "a ≥ λ · max with λ fitted, without scale",
}
PAPER_ERRORS = {"bool": "0.683", "algorithm 1": "2.58e-5", "given share, scale": "2.72e-5",
                "given share": "0.141"}
"""BiViT's table 1: NesT-T on ImageNet."""


def _spread(values, digits, factor=1.0):
    """Mean ± standard deviation."""
    values = [factor * value for value in values]
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pick(seeds, key):
    return [figures[key] for figures in seeds.values()]


def differences(figures, better, worse, key="top1") -> list[float]:
    """Difference of two variants, for every seed that both have."""
    one, other = (figures["variants"].get(name, {"seeds": {}})["seeds"]
                  for name in (better, worse))
    return [one[seed][key] - other[seed][key] for seed in one if seed in other]


def verdict(values) -> str:
    """Whether the mean of these differences is positive, by its interval of 95 %."""
    if len(values) < 2:
        return "too few runs"
    reach = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    if abs(mean) <= reach:
        return "undecided"
    return "holds" if mean > 0 else "opposite"


def _claims(figures):
    rows = []
    for claim in CLAIMS:
        top1 = differences(figures, claim.better, claim.worse)
        loss = [-value for value in differences(figures, claim.better, claim.worse, "loss")]
        if top1:
            rows.append([claim.paper, f"`{claim.better}` over `{claim.worse}`", str(len(top1)),
                         _spread(top1, 2, 100), verdict(top1), _spread(loss, 3), verdict(loss)])
    return _table(["the paper's ordering", "here", "seeds", "top-1, points", "", "loss is less by",
                   ""], rows)


def _group(figures, members):
    rows = []
    for name, label in members.items():
        variant = figures["variants"].get(name)
        if variant and variant["seeds"]:
            seeds = variant["seeds"]
            rows.append([f"{label} (`{name}`)", str(len(seeds)),
                         _spread(_pick(seeds, "top1"), 2, 100), _spread(_pick(seeds, "loss"), 3),
                         _spread(_pick(seeds, "divergence"), 3),
                         f"{variant['binary_macs']:,}", f"{variant['binary_weight_bits']:,}"])
    return _table(["variant", "seeds", "top-1, %", "loss", "divergence from the teacher",
                   "binary MACs", "binary weights"], rows) if rows else ""


def _variants(figures):
    groups = {}
    for name, variant in VARIANTS.items():
        groups.setdefault(variant.group, {})[name] = variant.label
    for group, members in SHARED.items():
        groups[group] = members | groups.get(group, {})
    parts = [f"### {group}\n\n{table}" for group, members in groups.items()
             if (table := _group(figures, members))]
    return "\n\n".join(parts)


def _errors(figures):
    tables = [seed["rows"] for seed in figures["teacher"]["seeds"].values()]
    if not tables:
        return ""
    rows = [[label, f"{statistics.mean(table['errors'][key] for table in tables):.3g}",
             f"{min(table['errors'][key] for table in tables):.3g} to "
             f"{max(table['errors'][key] for table in tables):.3g}",
             PAPER_ERRORS.get(key, "")] for key, label in ERRORS.items()]
    fitted = [table["fitted_share"] for table in tables]
    return "\n".join([
        _table(["attention replaced by", "mean squared error", "seeds", "BiViT, NesT-T"], rows),
        "",
        f"λ fitted: {_spread(fitted, 3)} (BiViT: 0.25). Rows of {tables[0]['keys']} keys, "
        f"{tables[0]['rows']:,} of each seed's teacher. Algorithm 1 found the best bits of all in "
        f"{_spread([table['optimal'] for table in tables], 1, 100)} % of the rows; in "
        f"{_spread([table['converged'] for table in tables], 1, 100)} % a sixth round changes "
        "nothing."])


def _setting(figures):
    settings, teacher = figures["settings"], figures["teacher"]["seeds"]
    runs = [run for variant in figures["variants"].values() for run in variant["seeds"].values()]
    busy = sum(run["processor_seconds"] for run in [*runs, *teacher.values()])
    wanted = settings["seeds"] * len(VARIANTS)
    return (
        f"{len(runs)} of {wanted} runs and {len(teacher)} teachers, {busy / 60:.0f} minutes of "
        f"processor time ({figures['machine']['processor']}, PyTorch {figures['torch']}). Each "
        f"seed trains on {settings['images']} of the 1,437 training images and is measured on the "
        f"{figures['measured_images']} held-out ones; {settings['epochs']} epochs, teachers "
        f"{settings['teacher_epochs']}, batch {settings['batch']}, AdamW at "
        f"{settings['learning_rate']}. The float teachers reach "
        f"{_spread(_pick(teacher, 'top1'), 2, 100)} %.")


def sections(figures) -> dict[str, str]:
    """Name of a section to its text."""
    return {"setting": _setting(figures), "claims": _claims(figures),
            "errors": _errors(figures), "variants": _variants(figures)}


def write_page(figures, path: pathlib.Path) -> None:
    """Replace the sections of a page, or write one that has nothing else."""
    found = sections(figures)
    text = path.read_text(encoding="utf-8") if path.exists() else "\n".join(
        f"<!-- figures: {name} -->\n<!-- end -->\n" for name in found)
    for name, section in found.items():
        text, count = re.subn(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)",
                              lambda match, body=section: f"{match[1]}{body}\n{match[2]}", text,
                              flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{path} has {count} sections {name}; it must have one")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    write_page(json.loads((here / "ablation.json").read_text(encoding="utf-8")),
               here.parent / "docs" / "ablations.md")
