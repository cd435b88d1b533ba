"""Where designs are evaluated: in this process, or by workers of Dask."""

import contextlib
import logging

from bivit.explore.compiled import cut_alike
from bivit.explore.evaluate import evaluate
from bivit.explore.networks import prepare
from bivit.explore.space import ExploreError, Space

__all__ = ["Cluster", "Here", "workers_of"]

_PATIENCE = 10
"""Seconds in which a scheduler must answer."""
_DEATHS = 5
"""Workers that may die over one design before it is given up."""


class Here:
    """This process."""

    def __init__(self, space: Space):
        self._space, self._networks = space, {}

    def run(self, jobs: dict):
        """Evaluate designs.

        Parameters
        ----------
        jobs : dict of str to (dict, Variant)
            Key to design and network.

        Yields
        ------
        (str, dict)
            Key and record, each as soon as it is there.
        """
        for key, (design, variant) in jobs.items():
            if variant.key not in self._networks:
                self._networks[variant.key] = prepare(variant)
            yield key, evaluate(design, self._networks[variant.key], self._space.constraints)


def _evaluate_all(designs, network, constraints):
    """Records by key."""
    return {key: evaluate(design, network, constraints) for key, design in designs.items()}


class Cluster:
    """Workers of a Dask cluster."""

    def __init__(self, space: Space, client):
        self._space, self._client, self._networks = space, client, {}

    def run(self, jobs: dict):
        """As :meth:`Here.run`; a network is prepared by one worker and sent to the others, and
        designs that share their instructions are evaluated by one worker."""
        from distributed import as_completed

        alike, futures = {}, {}
        for key, (design, variant) in jobs.items():
            if variant.key not in self._networks:
                self._networks[variant.key] = self._client.submit(
                    prepare, variant, key=f"network-{variant.key}", priority=1)
            alike.setdefault((variant.key, cut_alike(design)), {})[key] = design
        for (variant, _), designs in alike.items():
            future = self._client.submit(
                _evaluate_all, designs, self._networks[variant], self._space.constraints,
                key=f"designs-{next(iter(designs))}")
            futures[future] = designs
        for future in as_completed(list(futures)):
            del futures[future]
            yield from future.result().items()
            future.release()


@contextlib.contextmanager
def workers_of(space: Space, count: int, scheduler: str | None = None):
    """Workers for a space.

    Parameters
    ----------
    count : int
        Processes of a local cluster; 0: this process.
    scheduler : str, optional
        Address of a cluster that runs; its workers need bivit.

    Raises
    ------
    ExploreError
        If the scheduler does not answer.
    """
    if not count and scheduler is None:
        yield Here(space)
        return
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    settings = {"distributed.scheduler.allowed-failures": _DEATHS,
                "distributed.comm.timeouts.connect": _PATIENCE,
                "distributed.admin.log-format": "%(message)s"}
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(LocalCluster(
                n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address=None,
                silence_logs=logging.CRITICAL))
        else:
            cluster = scheduler
        try:
            client = Client(cluster, timeout=_PATIENCE)
        except (OSError, ValueError, TypeError) as error:
            raise ExploreError(f"the scheduler {scheduler} does not answer within {_PATIENCE} s; "
                               "start it (dask scheduler), or leave out --scheduler") from error
        with client:
            yield Cluster(space, client)
