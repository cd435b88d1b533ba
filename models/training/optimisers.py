"""Optimisers by the names of recipes."""

import torch

__all__ = ["Lamb", "make_optimiser"]


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al., 2020): Adam's step of every tensor, scaled to the tensor's norm.

    Parameters
    ----------
    parameters : iterable of parameters
    lr : float
    betas : (float, float)
    eps, weight_decay : float
    """

    def __init__(self, parameters, lr, *, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps,
                                      "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        """Change all parameters that have a gradient."""
        for group in self.param_groups:
            first_decay, second_decay = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(step=0, first=torch.zeros_like(parameter),
                                 second=torch.zeros_like(parameter))
                state["step"] += 1
                first, second = state["first"], state["second"]
                first.lerp_(parameter.grad, 1 - first_decay)
                second.mul_(second_decay).addcmul_(parameter.grad, parameter.grad,
                                                   value=1 - second_decay)
                mean = first / (1 - first_decay ** state["step"])
                deviation = (second / (1 - second_decay ** state["step"])).sqrt()
                change = mean / (deviation + group["eps"]) + group["weight_decay"] * parameter
                sizes = parameter.norm(), change.norm()
                ratio = torch.where((sizes[0] > 0) & (sizes[1] > 0), sizes[0] / sizes[1], 1.0)
                parameter.sub_(change * (group["lr"] * ratio))


_KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "lamb": Lamb}


def make_optimiser(stage, parameters):
    """The optimiser of a stage."""
    return _KINDS[stage.optimiser](parameters, stage.learning_rate,
                                   weight_decay=stage.weight_decay)
