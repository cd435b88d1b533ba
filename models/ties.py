"""Signs of exact zeros: where bits (+1 at 0) differ from code that takes ``torch.sign`` (0 at 0).

Every sign of the networks is ``torch.where(x >= 0, 1.0, -1.0)``; its argument is watched while the
network runs, so nothing has to be said again about what each layer binarizes.
"""

import dataclasses

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Ties", "count_ties"]


@dataclasses.dataclass
class Ties:
    """Zeros among the arguments of the signs of one module.

    Parameters
    ----------
    layer : str
    kind : str
        ``weights`` or ``activations``.
    zeros, signs : int
    """

    layer: str
    kind: str
    zeros: int = 0
    signs: int = 0


class _Watch(TorchDispatchMode):
    """Counts zeros under every sign, by the module that takes it."""

    def __init__(self):
        super().__init__()
        self.modules, self.found, self._comparison = [], {}, (None, None)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.ge.Scalar and args[1] == 0:
            self._comparison = result, args[0]
        elif function is torch.ops.aten.where.self and not args[1].ndim and not args[2].ndim:
            compared, x = self._comparison
            if args[0] is compared and (float(args[1]), float(args[2])) == (1.0, -1.0):
                self._note(x)
        return result

    def _note(self, x):
        # A weight has rows and columns, activations an image's number before them.
        kind = "weights" if x.ndim == 2 else "activations"
        layer = self.modules[-1]
        ties = self.found.setdefault((layer, kind), Ties(layer, kind))
        ties.zeros += int((x == 0).sum())
        ties.signs += x.numel()


def count_ties(model: torch.nn.Module, images: torch.Tensor) -> list[Ties]:
    """Zeros under the signs of a network that classifies some images, by layer.

    Parameters
    ----------
    model : module
    images : uint8 tensor (N, C, H, W)
        Run at once.
    """
    watch, training = _Watch(), model.training
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(
            lambda *_, name=name: watch.modules.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: watch.modules.pop() and None))
    try:
        with torch.no_grad(), watch:
            model.eval()(images)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return list(watch.found.values())
