"""Losses against a teacher: its logits (ReActNet, BiViT, BinaryViT), the order of its attention
(Bi-ViT); and how attention is seen from outside."""

import contextlib

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from bivit.models.training.recipe import TrainError

__all__ = ["attention_seen", "distribution_loss", "ranking_loss", "stage_loss"]


def distribution_loss(student, teacher, *, temperature=1.0):
    """``temperature^2 * KL(softmax(teacher / temperature), softmax(student / temperature))``.

    ReActNet's distribution loss, which is the cross entropy of the two: the entropy of the
    teacher is subtracted, so that equal logits give 0; gradients are the same.

    Parameters
    ----------
    student, teacher : tensor (B, classes)
        Logits.

    Returns
    -------
    tensor ()
        Mean over the images.
    """
    t = temperature
    return F.kl_div(F.log_softmax(student / t, -1), F.log_softmax(teacher / t, -1),
                    log_target=True, reduction="batchmean") * t * t


def ranking_loss(teacher_attentions, student_attentions):
    """``sum over layers of || psi(A_teacher) - psi(A_student) ||_2`` (Bi-ViT, eq. 12 and 13).

    ``psi`` subtracts from every query's row that of the query before, cyclically. The norm is
    over all heads, queries and keys of one image; images are averaged.

    Parameters
    ----------
    teacher_attentions, student_attentions : sequence of tensor (B, ..., queries, keys)
        Softmax attention by layer, of equal shapes.
    """
    if not student_attentions or len(teacher_attentions) != len(student_attentions):
        raise TrainError(
            f"the teacher has {len(teacher_attentions)} and the student {len(student_attentions)} "
            "layers with a softmax; ranking needs equally many: choose another teacher, or "
            "ranking 0")
    total = 0.0
    for index, (one, other) in enumerate(zip(teacher_attentions, student_attentions,
                                             strict=True)):
        if one.shape != other.shape:
            raise TrainError(f"the attention of layer {index} is {tuple(one.shape[1:])} in the "
                             f"teacher and {tuple(other.shape[1:])} in the student; ranking needs "
                             "equal shapes: choose another teacher, or ranking 0")
        difference = one - other
        difference = difference - difference.roll(1, -2)
        total = total + torch.linalg.vector_norm(difference.flatten(1), dim=1).mean()
    return total


class _SoftmaxSeen(TorchFunctionMode):
    """Notes the results of ``Tensor.softmax``."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if function is torch.Tensor.softmax:
            self.seen.append(result)
        return result


@contextlib.contextmanager
def attention_seen():
    """Note the softmax attention of every layer that runs inside, in order.

    A float layer multiplies the values by what is noted; a binary layer takes its bits from it
    (:class:`~bivit.models.layers.BinaryAttention`, Bi-ViT's and BinaryViT's), so that gradients
    reach queries and keys without a straight-through step. BiBERT's attention has no softmax.

    Yields
    ------
    list of tensor (B, ..., queries, keys)
    """
    seen = []
    with _SoftmaxSeen(seen):
        yield seen


def stage_loss(stage, model, teacher, pixels, labels):
    """The loss of one batch.

    ``distil * distribution_loss + (1 - distil) * cross entropy + ranking * ranking_loss``.

    Parameters
    ----------
    stage : Stage
    teacher : module or None
        Needed where `distil` or `ranking` is not 0.
    """
    if not stage.distil and not stage.ranking:
        return F.cross_entropy(model(pixels), labels)
    watch = attention_seen if stage.ranking else contextlib.nullcontext
    with torch.no_grad(), watch() as wanted:
        target = teacher(pixels)
    with watch() as found:
        logits = model(pixels)
    loss = F.cross_entropy(logits, labels)
    if stage.distil:
        distance = distribution_loss(logits, target, temperature=stage.temperature)
        loss = stage.distil * distance + (1 - stage.distil) * loss
    if stage.ranking:
        loss = loss + stage.ranking * ranking_loss(wanted, found)
    return loss
