"""Training in three stages: float teacher, binary attention, everything binary.

Each stage starts from the one before (cross-layer binarization); the two binary stages learn from
the teacher's logits. Every epoch seeds its own generator, so that a run that was stopped and
resumed gives the same bytes as one that was not.
"""

import contextlib
import dataclasses
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F

from bivit.compiler.ir.errors import UserError
from bivit.models.config import ViTConfig
from bivit.models.data import augment
from bivit.models.vit import VisionTransformer, build, inherit

__all__ = ["RECIPE", "Stage", "TrainError", "accuracy", "deterministic", "predict", "train"]


class TrainError(UserError):
    """Training that cannot start; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    layers : str
        Key of :data:`bivit.models.vit.STAGES`.
    warm_up : int
        Epochs of linear warm-up before the cosine.
    distil : float
        Weight of the distance to the teacher; the rest is cross entropy.
    temperature : float
        Softens both distributions of the distance.
    average : float
        Decay of the average of the parameters, the result of the stage.
    """

    layers: str
    epochs: int
    learning_rate: float
    weight_decay: float = 0.0
    batch: int = 64
    warm_up: int = 3
    distil: float = 0.0
    temperature: float = 1.0
    average: float = 0.99


RECIPE = (
    Stage(layers="float", epochs=30, learning_rate=1e-3, weight_decay=0.05),
    Stage(layers="binary-attention", epochs=25, learning_rate=1e-3, distil=0.9, temperature=2.0),
    Stage(layers="binary", epochs=90, learning_rate=1e-3, distil=0.9, temperature=2.0),
)
"""How the shipped digits network is trained."""


@contextlib.contextmanager
def deterministic(threads: int, seed: int):
    """PyTorch with `threads` threads, deterministic algorithms and its own random state."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


def predict(model, images, *, batch=256) -> torch.Tensor:
    """Logits of uint8 images (N, C, H, W)."""
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(batch)])


def accuracy(model, images, labels) -> float:
    """Share of images whose greatest logit is the label's."""
    return float((predict(model, images).argmax(-1) == labels).double().mean())


def _write(state, path):
    """Save atomically: the file is the old one or the whole new one."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read(path):
    try:
        return torch.load(path, weights_only=True)
    except Exception:
        raise TrainError(f"{path} is not a training state that can be resumed; delete it or train "
                         "without resuming") from None


def _schedule(stage, step, steps_per_epoch):
    warm, total = stage.warm_up * steps_per_epoch, stage.epochs * steps_per_epoch
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _loss(stage, logits, labels, target):
    loss = F.cross_entropy(logits, labels)
    if target is None:
        return loss
    t = stage.temperature
    distance = F.kl_div(F.log_softmax(logits / t, -1), F.log_softmax(target / t, -1),
                        log_target=True, reduction="batchmean") * t * t
    return stage.distil * distance + (1 - stage.distil) * loss


class _Run:
    """Models, optimiser and average of one stage; its state can be saved and taken up."""

    def __init__(self, stage, config, source):
        self.stage, self.model = stage, build(config, stage.layers)
        if source is not None:
            inherit(self.model, source)
        self.average = {name: value.detach().clone()
                        for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.model.parameters(), stage.learning_rate,
                                           weight_decay=stage.weight_decay)

    def state(self):
        return {"model": self.model.state_dict(), "average": self.average,
                "optimiser": self.optimiser.state_dict()}

    def take_up(self, state):
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])

    def epoch(self, number, images, labels, teacher, seed):
        """Train once over the images, in an order and with changes that the numbers decide."""
        stage = self.stage
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        batches = torch.randperm(len(images), generator=generator).split(stage.batch)
        for index, chosen in enumerate(batches):
            step = number * len(batches) + index
            for group in self.optimiser.param_groups:
                group["lr"] = stage.learning_rate * _schedule(stage, step, len(batches))
            pixels = augment(images[chosen], generator)
            target = None
            if stage.distil:
                with torch.no_grad():
                    target = teacher(pixels)
            loss = _loss(stage, self.model(pixels), labels[chosen], target)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            decay = min(stage.average, (step + 1) / (step + 10))
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return float(loss.detach())


def train(config: ViTConfig, images, labels, *, recipe=RECIPE, state: Path | None = None,
          seed=0, threads=2, progress=None, save_every=5) -> VisionTransformer:
    """Train a binary vision transformer.

    Parameters
    ----------
    config : ViTConfig
    images : uint8 tensor (N, C, H, W)
    labels : int64 tensor (N,)
    recipe : sequence of Stage
        The first stage is the teacher of those with `distil`.
    state : path, optional
        File to resume from, written every `save_every` epochs. One of another recipe, seed or
        network is left alone and overwritten.
    progress : callable (done epochs, all epochs, text), optional

    Returns
    -------
    VisionTransformer
        The float model of the last stage, with averaged parameters.
    """
    identity = repr((config, tuple(recipe), seed, threads, len(images)))
    total = sum(stage.epochs for stage in recipe)
    with deterministic(threads, seed):
        results, start, inner = [], 0, None
        if state is not None and state.exists():
            saved = _read(state)
            if saved["identity"] == identity:
                results, start, inner = saved["results"], saved["epoch"], saved["run"]
        teacher, model = None, None
        for index, stage in enumerate(recipe):
            done = sum(earlier.epochs for earlier in recipe[:index])
            torch.manual_seed(seed + index)
            if index >= len(results):
                run = _Run(stage, config, results[-1] if results else None)
                if inner is not None:
                    run.take_up(inner)
                    inner = None
                for number in range(start, stage.epochs):
                    loss = run.epoch(number, images, labels, teacher,
                                     (seed * len(recipe) + index) * 1009)
                    if progress:
                        progress(done + number + 1, total, f"{stage.layers}, loss {loss:.3f}")
                    if state and (number + 1) % save_every == 0 and number + 1 < stage.epochs:
                        _write({"identity": identity, "results": results, "epoch": number + 1,
                                "run": run.state()}, state)
                results.append(run.average)
                start = 0
                if state:
                    _write({"identity": identity, "results": results, "epoch": 0, "run": None},
                           state)
            model = build(config, stage.layers)
            model.load_state_dict(results[index])
            model.eval()
            teacher = teacher or model
    return model
