"""The loop: stages one after the other, each resumable, on a GPU if there is one.

Every epoch seeds its own generator, so that a run that was stopped and resumed gives the same
bytes as one that was not.
"""

import contextlib
import math
import os
from pathlib import Path

import torch
from torch import nn

from bivit.models.binaryvit import SelfAttention
from bivit.models.headwise import HeadAttention, HeadSign
from bivit.models.multibit import fit_steps
from bivit.models.pixels import PATCHES, take_up_pixels
from bivit.models.registry import Network, network
from bivit.models.training.losses import stage_loss
from bivit.models.training.optimisers import make_optimiser
from bivit.models.training.recipe import Recipe, TrainError, stage_network
from bivit.models.vit import inherit

__all__ = ["accuracy", "choose_device", "deterministic", "predict", "train"]

SMALLEST = 1e-3
"""Scales that divide what is binarized stay at least this: below zero, attention is dead."""

SAMPLE = 2048
"""Images that steps and statistics are taken of after a stage."""


@contextlib.contextmanager
def deterministic(threads: int, seed: int, *, exact=True):
    """PyTorch with `threads` threads and its own random state; deterministic if `exact`."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


def choose_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def predict(model, images, *, batch=256) -> torch.Tensor:
    """Logits of uint8 images (N, C, H, W)."""
    device = next((value.device for value in model.state_dict().values()), images.device)
    with torch.no_grad():
        return torch.cat([model(part.to(device)).cpu() for part in images.split(batch)])


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
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception:
        raise TrainError(f"{path} is not a training state that can be resumed; delete it or train "
                         "without resuming") from None


def _rate(stage, step, steps_per_epoch):
    """Learning rate of a step: linear warm-up, then a cosine."""
    warm, total = stage.warm_up * steps_per_epoch, stage.epochs * steps_per_epoch
    if step < warm:
        return stage.learning_rate * ((step + 1) / warm)
    share = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    low = stage.min_learning_rate
    return low + (stage.learning_rate - low) * share


def _hold_zero_points(model):
    """Attention levels 0 and 2 alpha, from a threshold alpha on; -alpha and alpha elsewhere."""
    for layer in model.modules():
        if isinstance(layer, HeadAttention):
            for name in ("q_act", "k_act", "v_act", "attn_act"):
                point = getattr(layer, name).zero_point
                point.detach().fill_(-1.0 if name == "attn_act" else 0.0)
                point.requires_grad_(False)


def _positive(model):
    """Parameters that must stay positive: Bi-ViT's head-wise scales, BinaryViT's clips."""
    return ([layer.alpha for layer in model.modules() if isinstance(layer, HeadSign)]
            + [layer.att_prob_clip for layer in model.modules()
               if isinstance(layer, SelfAttention)])


def _draw_for_pixels(model, pixels):
    """Make random parameters of the first layer those of normalised colours."""
    name = PATCHES.get(type(model).__name__, "patch_embed.proj")
    layer = model.get_submodule(name)
    with torch.no_grad():
        for value, taken in zip((layer.weight, layer.bias),
                                take_up_pixels(layer.weight, layer.bias, pixels), strict=True):
            value.copy_(taken)


@torch.no_grad()
def _renew_statistics(model, images, batch):
    """Take the means and variances of BatchNorm anew, for the averaged parameters."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for part in images.split(batch):
        model(part)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class _Run:
    """Model, optimiser and average of one stage; its state can be saved and taken up."""

    def __init__(self, stage, model, device):
        self.stage, self.model, self.device = stage, model.to(device), device
        if stage.zero_points == "held":
            _hold_zero_points(model)
        self.positive = _positive(model)
        self.average = {name: value.detach().clone()
                        for name, value in model.state_dict().items()}
        self.optimiser = make_optimiser(
            stage, [value for value in model.parameters() if value.requires_grad])

    def state(self):
        return {"model": self.model.state_dict(), "average": self.average,
                "optimiser": self.optimiser.state_dict()}

    def take_up(self, state):
        self.model.load_state_dict(state["model"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])

    def epoch(self, number, data, teacher, seed, tell):
        """Train once over the data, in an order and with changes that the numbers decide."""
        stage, steps = self.stage, math.ceil(len(data) / self.stage.batch)
        self.model.train()
        for index, (pixels, labels) in enumerate(data.batches(
                stage.batch, seed * 1_000_003 + number)):
            step = number * steps + index
            for group in self.optimiser.param_groups:
                group["lr"] = _rate(stage, step, steps)
            loss = stage_loss(stage, self.model, teacher, pixels.to(self.device),
                              labels.to(self.device))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            for scale in self.positive:
                scale.detach().clamp_(min=SMALLEST)
            self._take_average(step)
            tell(number + (index + 1) / steps, loss)

    def _take_average(self, step):
        decay = min(self.stage.average, (step + 1) / (step + 10))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def result(self, data):
        """Averaged parameters; statistics and steps of 8-bit inputs are those they need."""
        self.model.load_state_dict(self.average)
        self.model.eval()
        images = data.sample(SAMPLE).to(self.device)
        if self.stage.average:
            _renew_statistics(self.model, images, self.stage.batch)
        fit_steps(self.model, images)
        return {name: value.detach().cpu().clone()
                for name, value in self.model.state_dict().items()}


class _Teller:
    """Speaks to a progress callback; without one, it is silent."""

    def __init__(self, progress, recipe):
        self.progress, self.recipe, self.text, self.done = progress, recipe, "", 0

    def begin(self, index, start):
        self.done = sum(stage.epochs for stage in self.recipe.stages[:index])
        self.text = self.recipe.stages[index].name
        if self.progress:
            self.progress(self.done + start, self.recipe.epochs, self.text)

    def __call__(self, epochs, loss):
        if self.progress:
            self.progress(self.done + epochs, self.recipe.epochs,
                          f"{self.text}, loss {float(loss.detach()):.3f}")


def train(recipe: Recipe, data, *, own: Network | None = None, teacher: nn.Module | None = None,
          state: Path | None = None, seed=0, threads=2, progress=None, save_every=5,
          device: torch.device | None = None) -> nn.Module:
    """Train a network.

    Parameters
    ----------
    recipe : Recipe
    data : TensorData or FolderData
    own : Network, optional
        To train instead of the recipe's: other sizes, other layers.
    teacher : module, optional
        Float network; needed if the recipe names one. Else the first stage's result teaches.
    state : path, optional
        File to resume from, written every `save_every` epochs. One of another recipe, seed or
        network is overwritten.
    threads : int
        PyTorch threads; on a CPU the result is byte-equal for equal threads on one machine.
    progress : callable (done epochs, all epochs, text), optional
        Called before the first and after every batch; epochs are counted in parts.
    device : torch.device, optional
        A GPU if there is one.

    Returns
    -------
    module
        The network of the last stage with averaged parameters, on the CPU, in evaluation mode.
    """
    own, device = own or network(recipe.network), device or choose_device()
    if recipe.teacher and teacher is None:
        raise TrainError(f"the recipe {recipe.name} needs a trained {recipe.teacher} as its "
                         "teacher; give its file")
    identity = repr((own, recipe, seed, threads, len(data), device.type))
    sources = {"": teacher.state_dict()} if recipe.pretrained else {}
    teller = _Teller(progress, recipe)
    with deterministic(threads, seed, exact=device.type == "cpu"):
        teacher = teacher and teacher.to(device).eval()
        results, start, inner = [], 0, None
        if state is not None and state.exists():
            saved = _read(state)
            if saved["identity"] == identity:
                results, start, inner = saved["results"], saved["epoch"], saved["run"]
        for index, stage in enumerate(recipe.stages):
            torch.manual_seed(seed + index)
            model = stage_network(recipe, stage, own).build(eight_bits=stage.eight_bits)
            if index >= len(results):
                if stage.network in sources:
                    inherit(model, sources[stage.network])
                    fit_steps(model.eval().to(device), data.sample(SAMPLE).to(device))
                elif recipe.pixels != "plain":
                    _draw_for_pixels(model, recipe.pixels)
                run = _Run(stage, model, device)
                if inner is not None:
                    run.take_up(inner)
                    inner = None
                teller.begin(index, start)
                for number in range(start, stage.epochs):
                    run.epoch(number, data, teacher, (seed * len(recipe.stages) + index) * 1009,
                              teller)
                    if state and (number + 1) % save_every == 0 and number + 1 < stage.epochs:
                        _write({"identity": identity, "results": results, "epoch": number + 1,
                                "run": run.state()}, state)
                results.append(run.result(data))
                start = 0
                if state:
                    _write({"identity": identity, "results": results, "epoch": 0, "run": None},
                           state)
            sources[stage.network] = results[index]
            model.load_state_dict(results[index])
            model.eval()
            teacher = teacher or model.to(device)
    return model.cpu()
