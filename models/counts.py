"""What a network costs, counted on the network itself while it runs without data."""

import dataclasses

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["Product", "costs", "products"]

KINDS = ("binary", "binary_weights", "other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """One matrix product or convolution of an image.

    Parameters
    ----------
    layer : str
        Module whose forward computes it.
    kind : str
        ``binary``; ``binary_weights`` if the other operand has more bits; ``other``.
    macs : int
    """

    layer: str
    kind: str
    macs: int


class _Recorder(TorchDispatchMode):
    """Notes every product that runs, with the module that runs it."""

    def __init__(self):
        super().__init__()
        self.modules, self.products = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        operations = flop_registry.get(function._overloadpacket)
        if operations:
            name, module = self.modules[-1]
            self.products.append(Product(
                layer=name, kind=getattr(module, "products", "other"),
                macs=operations(*args, **(kwargs or {}), out_val=result) // 2))
        return result


def products(model: torch.nn.Module, image_shape) -> list[Product]:
    """Every product of one image, in the order of execution.

    Parameters
    ----------
    model : module
        Takes uint8 images; on the ``meta`` device nothing is computed.
    image_shape : (int, int, int)
    """
    recorder, hooks = _Recorder(), []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(
            lambda module, _, name=name: recorder.modules.append((name, module))))
        hooks.append(module.register_forward_hook(lambda *_: recorder.modules.pop() and None))
    device = next(model.parameters()).device
    training = model.training
    try:
        with torch.no_grad(), recorder:
            model.eval()(torch.zeros(1, *image_shape, dtype=torch.uint8, device=device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return recorder.products


def costs(model: torch.nn.Module, image_shape) -> dict[str, int]:
    """Parameters, multiply-accumulates of one image and bits of a network.

    Returns
    -------
    dict
        ``parameters``; ``binary_macs``, ``binary_weight_macs`` (1-bit weights, more bits in the
        other operand) and ``other_macs``; ``binary_weight_bits`` and ``other_bits`` (8 bits for
        the weights of other products, 16 for every other parameter).
    """
    done = products(model, image_shape)
    kinds = {product.layer: product.kind for product in done}
    binary = wide = 0
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            count = module.weight.numel()
            if getattr(module, "products", kinds.get(name, "other")) == "other":
                wide += count
            else:
                binary += count
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = {kind: sum(product.macs for product in done if product.kind == kind)
            for kind in KINDS}
    return {
        "parameters": parameters,
        "binary_macs": macs["binary"],
        "binary_weight_macs": macs["binary_weights"],
        "other_macs": macs["other"],
        "binary_weight_bits": binary,
        "other_bits": 8 * wide + 16 * (parameters - binary - wide),
    }
