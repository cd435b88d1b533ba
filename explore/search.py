"""The search: generations proposed by Optuna, evaluated somewhere, told in order.

What is proposed depends on the seed and on finished generations alone, so that a search that was
stopped proposes the same designs once more and finds those that were finished in the store.
"""

import hashlib
import random
import warnings

import optuna

from bivit.explore.evaluate import design_key
from bivit.explore.hardware import own_hardware
from bivit.explore.networks import variant_of
from bivit.explore.space import Space
from bivit.explore.store import Store, choices, constraint_values, directions, values_of
from bivit.hw.devices import DEVICES
from bivit.hw.targets import TARGETS

__all__ = ["search"]

_CONSTRAINTS = "constraints"
_ARRAY = ("rows", "cols", "lanes", "post_rows")


def search(space: Space, store: Store, workers, progress) -> list[dict]:
    """Evaluate the designs that a space asks for.

    Parameters
    ----------
    workers : object
        ``run(jobs)``, see :mod:`bivit.explore.workers`.
    progress : callable (done, total, records)
        Called with all records so far.

    Returns
    -------
    list of dict
        The records, each design once, in the order in which they were proposed.
    """
    proposer = _Proposer(space)
    total = min(space.search.designs, proposer.most)
    together = space.search.generation if space.search.method == "nsga2" else total
    found, told = {}, 0
    while told < total:
        trials = [proposer.ask(told + index) for index in range(min(together, total - told))]
        designs = [space.design(proposer.chosen(trial)) | proposer.beside(trial)
                   for trial in trials]
        variants = [variant_of(design, space) for design in designs]
        keys = [design_key(design, variant.key)
                for design, variant in zip(designs, variants, strict=True)]
        jobs, proposed = {}, {}
        for index, key in enumerate(keys):
            proposed.setdefault(key, told + index)
            if key not in found and key not in store.records:
                jobs[key] = (designs[index], variants[index])
        for key in keys:
            if key in store.records:
                found.setdefault(key, store.records[key])
        progress(told + len(trials) - len(jobs), total, list(found.values()))
        left = len(jobs)
        for key, record in workers.run(jobs):
            record = {"number": proposed[key], "key": key} | record
            store.add(record)
            found[key], left = record, left - 1
            progress(told + len(trials) - left, total, list(found.values()))
        for trial, key in zip(trials, keys, strict=True):
            proposer.tell(trial, found[key])
        told += len(trials)
    return sorted(found.values(), key=lambda record: record["number"])


def _named(space):
    """Where a search begins, as values of what is varied, and hardware parameters beside them.

    First the named targets as they are, of the fabric of a device and with nothing that the space
    does not allow; then designs with the arrays of named targets, depths as the network needs them.
    """
    like = [arch for arch in TARGETS.values()
            if all(getattr(arch, name) in space.hardware.get(name, ()) for name in _ARRAY)]
    for arch in like:
        own = own_hardware(arch)
        device = next((device for device in space.hardware["device"]
                       if DEVICES[device].family.fabric == arch.fabric), None)
        allowed = {"weights": ("rom",)} | space.hardware
        if device and all(value in allowed.get(name, (value,)) for name, value in own.items()):
            own["device"] = device
            yield {name: own[name] for name in space.varied if name in own}, own
    for arch in like:
        yield {name: getattr(arch, name) for name, values in space.varied.items()
               if getattr(arch, name, None) in values}, {}


class _Proposer:
    """Designs from a sampler of Optuna, in a study in memory."""

    def __init__(self, space):
        self._space, self._options = space, {name: dict(zip(choices(values), values, strict=True))
                                             for name, values in space.varied.items()}
        self._distributions = {name: optuna.distributions.CategoricalDistribution(tuple(options))
                               for name, options in self._options.items()}
        search = space.search
        self.most = space.size if search.method == "grid" else search.designs
        self._grid = None
        if search.method == "grid":
            self._grid = random.Random(search.seed).sample(
                range(space.size), min(space.size, search.designs))
        self._named = [] if search.method == "grid" else list(_named(space))
        self._study = optuna.create_study(directions=directions(space), sampler=self._sampler(0))

    def _sampler(self, number):
        search = self._space.search
        seed = int.from_bytes(hashlib.sha256(f"{search.seed} {number}".encode()).digest()[:4])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if search.method == "nsga2":
                return optuna.samplers.NSGAIISampler(
                    seed=seed, population_size=search.generation,
                    constraints_func=lambda trial: trial.user_attrs.get(_CONSTRAINTS, [0.0]))
            return optuna.samplers.RandomSampler(seed=seed)

    def ask(self, number):
        """A trial with values of all parameters that vary."""
        self._study.sampler = self._sampler(number)
        if self._grid is not None:
            self._study.enqueue_trial(self._point(self._grid[number]))
        elif number < len(self._named):
            self._study.enqueue_trial(self._named[number][0])
        return self._study.ask(self._distributions)

    def _point(self, position):
        """A point of the grid by its position."""
        found = {}
        for name, options in self._options.items():
            position, index = divmod(position, len(options))
            found[name] = list(options)[index]
        return found

    def chosen(self, trial):
        """Parameter to value."""
        return {name: self._options[name][value] for name, value in trial.params.items()}

    def beside(self, trial):
        """Hardware parameters of a design that the space leaves open."""
        return self._named[trial.number][1] if trial.number < len(self._named) else {}

    def tell(self, trial, record):
        """The result of a trial."""
        if record["status"] != "done":
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        trial.set_user_attr(_CONSTRAINTS, constraint_values(record))
        self._study.tell(trial, values_of(record, self._space))
