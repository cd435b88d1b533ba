"""Finished designs in an Optuna study: one transaction each, so that a stop loses none of them."""

import json
import math

import optuna

from bivit.explore.space import OBJECTIVES, ExploreError, Space

__all__ = ["Store", "choices", "constraint_values", "directions", "values_of"]

_STUDY = "bivit"
_RECORD = "record"


class Store:
    """The records of a space in a storage of Optuna.

    Parameters
    ----------
    url : str
        Of the storage: ``sqlite:///explore.db``.
    space : Space

    Raises
    ------
    ExploreError
        If the storage cannot be used, or holds another space.
    """

    def __init__(self, url: str, space: Space):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.url, self._space = url, space
        self._distributions = {name: optuna.distributions.CategoricalDistribution(choices(values))
                               for name, values in space.varied.items()}
        try:
            self._study = optuna.create_study(
                study_name=_STUDY, storage=url, load_if_exists=True, directions=directions(space))
        except Exception as error:  # of whatever database it is
            if isinstance(error, ValueError) and "irections" in str(error):
                raise ExploreError(self._other()) from None
            raise ExploreError(f"the storage {url} cannot be used: "
                               f"{str(error).splitlines()[0]}") from None
        stored = self._study.user_attrs.get("space")
        if stored is None:
            self._study.set_user_attr("space", space.hash)
        elif stored != space.hash:
            raise ExploreError(self._other())
        self.records = {}
        for trial in self._study.get_trials(deepcopy=False):
            record = json.loads(trial.user_attrs[_RECORD])
            self.records[record["key"]] = record

    def _other(self):
        return (f"{self.url} holds the designs of another space or seed; name another output "
                "folder or storage")

    def add(self, record: dict) -> None:
        """Keep a finished design."""
        done = record["status"] == "done"
        self._study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.FAIL,
            values=values_of(record, self._space) if done else None,
            params={name: choice(record["design"][name]) for name in self._distributions},
            distributions=self._distributions,
            user_attrs={_RECORD: json.dumps(record)}))
        self.records[record["key"]] = record


def directions(space: Space) -> list[str]:
    """Of the objectives."""
    return [OBJECTIVES[name] for name in space.objectives]


def values_of(record: dict, space: Space) -> list[float]:
    """The objectives of a record; the worst there is where one is not known."""
    worst = {"minimize": math.inf, "maximize": -math.inf}
    return [worst[OBJECTIVES[name]] if record[name] is None else float(record[name])
            for name in space.objectives]


def constraint_values(record: dict) -> list[float]:
    """By how much of the limit constraints are broken, for samplers; 0 or less is kept."""
    return [sum(abs(broken["value"] - broken["limit"]) / broken["limit"]
                if broken["value"] is not None else 1.0 for broken in record["broken"])]


def choice(value):
    """A value as Optuna stores it."""
    return json.dumps(value) if isinstance(value, (tuple, list)) else value


def choices(values) -> tuple:
    """The values of a parameter as Optuna stores them."""
    return tuple(map(choice, values))
