"""The papers' claims in miniature, on digits: ``make ablation``.

A float teacher for each seed, then every variant of ``ablation_variants.py`` against it, two at a
time with one thread each. A run that is done lies in ``build/ablation``; the same command goes on
from there. At the end ``ablation.json`` and ``docs/ablations.md`` are written from what is there.
Nothing is chosen on the held-out images; they are only measured on.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from ablation_page import write_page
from ablation_variants import IMAGES, SIZES, VARIANTS
from common import machine

from bivit.models.attention_threshold import attention_rows, errors
from bivit.models.counts import costs
from bivit.models.data import augment, digits
from bivit.models.registry import Network
from bivit.models.training.data import TensorData
from bivit.models.training.losses import distribution_loss
from bivit.models.training.recipe import Recipe, Stage
from bivit.models.training.trainer import predict, train
from bivit.models.vit import VisionTransformer

__all__ = ["FIGURES", "Settings", "collect", "recipe", "subset"]

ROOT = pathlib.Path(__file__).parents[1]
FIGURES = pathlib.Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "ablations.md"
ROWS = 10_000
"""Attention rows that Algorithm 1 is run on."""
ROW_IMAGES = 128
TEACHER = Network(config=SIZES, family=VisionTransformer, layers={}, eight_bits={})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs have in common.

    Parameters
    ----------
    part : str
        Where is measured: ``held_out``, or ``rest``, the images of the training part that the
        seed does not train on, for choosing settings.
    """

    seeds: int = 3
    teacher_epochs: int = 60
    epochs: int = 40
    images: int = IMAGES
    batch: int = 50
    learning_rate: float = 2e-3
    average: float = 0.98
    distil: float = 0.9
    temperature: float = 2.0
    part: str = "held_out"


def subset(settings, seed):
    """Images and labels that a seed trains on, and those that are measured on."""
    images, labels = digits("train").tensors()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen, rest = order[:settings.images], order[settings.images:]
    measured = (digits("held_out").tensors() if settings.part == "held_out"
                else (images[rest], labels[rest]))
    return (images[chosen], labels[chosen]), measured


def recipe(variant, settings) -> Recipe:
    """The recipe of a variant, of a teacher if there is none."""
    common = {"batch": settings.batch, "learning_rate": settings.learning_rate,
              "average": settings.average}
    if variant is None:
        stages = (Stage(name="teacher", epochs=settings.teacher_epochs, weight_decay=0.05,
                        warm_up=min(3, settings.teacher_epochs - 1), **common),)
        return Recipe(name="teacher", network="", stages=stages)
    common |= {"distil": settings.distil, "temperature": settings.temperature,
               "ranking": variant.ranking, "zero_points": variant.zero_points}
    parts = [None]
    if variant.split is not None:
        parts = [variant.split, None]
    lengths = [settings.epochs] if len(parts) == 1 else [
        settings.epochs // 2, settings.epochs - settings.epochs // 2]
    stages = tuple(Stage(name=f"stage {index + 1}", layers=layers, epochs=max(1, length),
                         warm_up=min(3, max(1, length) - 1), **common)
                   for index, (layers, length) in enumerate(zip(parts, lengths, strict=True)))
    return Recipe(name="ablation", network="", teacher="teacher", pretrained=variant.pretrained,
                  stages=stages)


def _identity(what, settings):
    """What the result of a run depends on; labels and the number of seeds are no part of it."""
    if what is not None:
        what = dataclasses.replace(what, group="", label="")
    text = repr((what, dataclasses.replace(settings, seeds=0), torch.__version__))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(folder, name, seed):
    return folder / f"{name}-{seed}.json"


def _result(folder, name, seed, identity):
    """The figures of a run that is done."""
    try:
        figures = json.loads(_path(folder, name, seed).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return figures if figures.pop("identity") == identity else None


def _measured(model, teacher, images, labels):
    """Top-1, loss, and divergence from the teacher."""
    logits = predict(model, images)
    figures = {"top1": float((logits.argmax(-1) == labels).double().mean()),
               "loss": float(F.cross_entropy(logits, labels))}
    if teacher is not None:
        figures["divergence"] = float(distribution_loss(logits, predict(teacher, images)))
    return figures


def _run(name, seed, settings, folder):
    """Train one network, or the teacher, and write its figures."""
    torch.set_num_threads(1)
    start, busy = time.perf_counter(), time.process_time()
    variant = VARIANTS.get(name)
    (images, labels), measured = subset(settings, seed)
    teacher, share = None, 0.0
    if variant is not None:
        teacher = TEACHER.build().eval()
        teacher.load_state_dict(torch.load(folder / f"teacher-{seed}.pt", weights_only=True))
        share = json.loads(_path(folder, "teacher", seed).read_text())["rows"]["fitted_share"]
    network = TEACHER if variant is None else variant.network(share)
    model = train(recipe(variant, settings), TensorData(images, labels, augment), own=network,
                  teacher=teacher, seed=seed, threads=1, device=torch.device("cpu"))
    figures = _measured(model, teacher, *measured)
    if variant is None:
        torch.save(model.state_dict(), folder / f"teacher-{seed}.pt")
        figures["rows"] = errors(attention_rows(model, images[:ROW_IMAGES], count=ROWS,
                                                seed=seed))
    figures["seconds"] = round(time.perf_counter() - start, 1)
    figures["processor_seconds"] = round(time.process_time() - busy, 1)
    path = _path(folder, name, seed)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"identity": _identity(variant, settings), **figures}))
    os.replace(part, path)
    return figures


def _do(jobs, settings, folder, pool):
    """The runs that are not done yet."""
    wanted = [job for job in jobs
              if _result(folder, *job, _identity(VARIANTS.get(job[0]), settings)) is None]
    start = time.perf_counter()
    futures = {pool.submit(_run, *job, settings, folder): job for job in wanted}
    for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
        name, seed = futures[future]
        figures, spent = future.result(), time.perf_counter() - start
        print(f"[{done}/{len(wanted)}] {name}, seed {seed}: {100 * figures['top1']:.1f} % "
              f"in {figures['seconds']:.0f} s; about "
              f"{spent / done * (len(wanted) - done) / 60:.0f} min left",
              file=sys.stderr, flush=True)


def collect(settings, folder, names) -> dict:
    """All figures that are there, of all seeds."""
    def found(name):
        identity = _identity(VARIANTS.get(name), settings)
        results = {str(seed): _result(folder, name, seed, identity)
                   for seed in range(settings.seeds)}
        return {seed: figures for seed, figures in results.items() if figures}

    def sizes(network):
        with torch.device("meta"):
            counted = costs(network.build(), SIZES.image_shape)
        return {key: counted[key] for key in ("parameters", "binary_macs", "binary_weight_bits")}

    return {
        "machine": machine(), "torch": torch.__version__,
        "settings": dataclasses.asdict(settings),
        "measured_images": len(subset(settings, 0)[1][1]),
        "teacher": {**sizes(TEACHER), "seeds": found("teacher")},
        "variants": {name: {**sizes(VARIANTS[name].network(0.25)), "seeds": found(name)}
                     for name in names},
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="one epoch, one seed, few images; to see that it runs")
    parser.add_argument("--write", action="store_true",
                        help="train nothing; write figures and page of the runs that are done")
    parser.add_argument("--rest", action="store_true",
                        help="measure on training images that are left out, to choose settings")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, metavar="VARIANT",
                        help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, default=Settings.seeds)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (2)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "ablation",
                        help="where runs that are done lie")
    parser.add_argument("--json", type=pathlib.Path, default=FIGURES)
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    options = parser.parse_args(arguments)
    settings = Settings(seeds=options.seeds, part="rest" if options.rest else "held_out")
    if options.quick:
        settings = dataclasses.replace(settings, seeds=1, epochs=1, teacher_epochs=1, images=50)
    official = options.json == FIGURES or options.page == PAGE
    if official and (options.quick or options.rest or options.only):
        parser.error("--quick, --rest and --only need their own --json and --page")
    names = options.only or list(VARIANTS)
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.write:
        pool = concurrent.futures.ProcessPoolExecutor(
            options.jobs, mp_context=multiprocessing.get_context("spawn"))
        try:
            _do([("teacher", seed) for seed in range(settings.seeds)], settings, options.folder,
                pool)
            _do([(name, seed) for seed in range(settings.seeds) for name in names], settings,
                options.folder, pool)
        finally:
            pool.shutdown(cancel_futures=True)
    figures = collect(settings, options.folder, names)
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    write_page(figures, options.page)


if __name__ == "__main__":
    main()
