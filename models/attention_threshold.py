"""One bit and one scale for a row of attention: BiViT's Algorithm 1, and what it leaves as error.

A row a of the softmax is replaced by ``v * b`` with bits b. For given bits the best scale is the
mean of a where b is 1; for a given scale the best bits are ``a >= v / 2``. Algorithm 1 alternates
between the two. As the threshold is about a fixed share of the row's maximum, that share is all
that the network keeps.
"""

import dataclasses

import torch

from bivit.models.layers import SOFTMAX_THRESHOLD, Attention

__all__ = ["ROUNDS", "Rows", "attention_rows", "coordinate_descent", "errors", "fit_share",
           "optimum"]

ROUNDS = 5
"""Rounds of Algorithm 1 in the paper."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Softmax rows (R, N) and the scores (R, N) that they were made of."""

    attention: torch.Tensor
    scores: torch.Tensor


def attention_rows(model, images, *, count=None, seed=0) -> Rows:
    """Rows of every head of every attention layer that `images` meet, as float64.

    Parameters
    ----------
    model : module
        A network whose attention layers are :class:`bivit.models.layers.Attention`.
    images : uint8 tensor (B, C, H, W)
    count : int, optional
        Draw so many of the rows, without replacement.
    """
    scores, hooks = [], []

    def record(layer, inputs):
        q, k, _ = layer.heads(inputs[0])
        scores.append(layer.scores(q, k, None).flatten(0, -2).double())

    for layer in model.modules():
        if isinstance(layer, Attention):
            hooks.append(layer.register_forward_pre_hook(record))
    if not hooks:
        raise ValueError(f"{type(model).__name__} has no attention layer whose rows are known")
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    scores = torch.cat(scores)
    if count is not None:
        generator = torch.Generator().manual_seed(seed)
        scores = scores[torch.randperm(len(scores), generator=generator)[:count]]
    return Rows(scores.softmax(-1), scores)


def _scale(attention, bits):
    """The best scale of given bits: mean of the row where they are 1 (R, 1)."""
    return (attention * bits).sum(-1, keepdim=True) / bits.sum(-1, keepdim=True)


def coordinate_descent(attention, *, rounds=ROUNDS):
    """Algorithm 1: bits and scale by turns, from bits that are all 1.

    Parameters
    ----------
    attention : tensor (R, N)
        Rows that are positive somewhere and nowhere negative.

    Returns
    -------
    bits : tensor (R, N)
    scale : tensor (R, 1)
        The scale of the last round; the threshold of `bits` is half of it.
    """
    bits = torch.ones_like(attention)
    for _ in range(rounds):
        scale = _scale(attention, bits)
        bits = (attention >= scale / 2).to(attention.dtype)
    return bits, scale


def optimum(attention):
    """Bits and scale of least squared error over all bits, exactly.

    The best k bits are at the k greatest elements, and ``sum^2 / k`` is what they explain, so that
    one sort finds the best k. Arguments and results are those of :func:`coordinate_descent`, but
    the scale is that of the bits returned.
    """
    ordered, places = attention.sort(-1, descending=True)
    counts = torch.arange(1, attention.shape[-1] + 1, dtype=attention.dtype)
    best = (ordered.cumsum(-1) ** 2 / counts).argmax(-1, keepdim=True)
    chosen = (counts - 1 <= best).to(attention.dtype)
    bits = torch.zeros_like(attention).scatter(-1, places, chosen)
    return bits, _scale(attention, bits)


def fit_share(attention, thresholds) -> float:
    """Slope of the line through the origin of the thresholds (R, 1) on the rows' maxima."""
    greatest = attention.amax(-1, keepdim=True)
    return float((thresholds * greatest).sum() / (greatest**2).sum())


def _mean_error(attention, value):
    return float(((attention - value) ** 2).mean())


def errors(rows: Rows, *, rounds=ROUNDS, share=SOFTMAX_THRESHOLD) -> dict:
    """Mean squared error of an element of the attention, by way of binarization.

    Returns
    -------
    dict
        ``rows``, ``keys``; ``fitted_share`` of the row's maximum; ``converged``: share of the rows
        that one more round leaves alone; ``optimal``: share of the rows whose error is the least
        of all bits; ``errors`` by name.
    """
    attention = rows.attention
    bits, scale = coordinate_descent(attention, rounds=rounds)
    further, _ = coordinate_descent(attention, rounds=rounds + 1)
    best, best_scale = optimum(attention)
    fitted = fit_share(attention, scale / 2)

    def shared(value):
        return (attention >= value * attention.amax(-1, keepdim=True)).to(attention.dtype)

    def explained(chosen):
        return (_scale(attention, chosen) * chosen)

    booleans = (rows.scores >= 0).to(attention.dtype)
    found = ((attention - explained(bits)) ** 2).sum(-1)
    least = ((attention - best_scale * best) ** 2).sum(-1)
    return {
        "rows": len(attention), "keys": attention.shape[-1], "fitted_share": fitted,
        "converged": float((further == bits).all(-1).double().mean()),
        "optimal": float((found <= least * (1 + 1e-9)).double().mean()),
        "errors": {
            "bool": _mean_error(attention, booleans),
            "optimum": _mean_error(attention, best_scale * best),
            "algorithm 1": _mean_error(attention, explained(bits)),
            "given share, scale": _mean_error(attention, explained(shared(share))),
            "given share": _mean_error(attention, shared(share)),
            "fitted share, scale": _mean_error(attention, explained(shared(fitted))),
            "fitted share": _mean_error(attention, shared(fitted)),
        },
    }
