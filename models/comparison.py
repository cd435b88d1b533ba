"""How far a float model and its integer model are apart: bits by layer, and predictions."""

import torch

from bivit.models.layers import SOFTMAX_THRESHOLD

__all__ = ["agreement", "observe"]


def observe(model, pixels) -> dict[str, torch.Tensor]:
    """Bits and codes of the float model, under the names of the integer model's layers.

    Returns
    -------
    dict of str to uint8 tensor, and ``logits`` (B, classes) in float.
    """
    seen, hooks = {}, []

    def record(path):
        def hook(layer, inputs, output):
            seen[path] = inputs[0] if path.endswith("proj") else output
        return hook

    blocks = [f"blocks.{index}" for index in range(len(model.blocks))]
    for path in [f"{block}.{part}" for block in blocks
                 for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1")] + ["norm"]:
        hooks.append(model.get_submodule(path).register_forward_hook(record(path)))
    try:
        with torch.no_grad():
            logits = model(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    result = {}
    for index, block in enumerate(blocks):
        parts = dict(zip("qkv", seen[f"{block}.attn.qkv"].chunk(3, -1), strict=True))
        heads = [torch.where(parts[part] >= 0, 1.0, -1.0).unflatten(
            -1, (model.config.num_heads, -1)).transpose(1, 2) for part in "qk"]
        scores = (heads[0] @ heads[1].transpose(-2, -1)) * model.blocks[index].attn.scale
        share = scores.softmax(-1)
        result[f"{block}.norm1"] = seen[f"{block}.norm1"] >= 0
        result.update({f"{block}.attn.{part}_sign": value >= 0 for part, value in parts.items()})
        result[f"{block}.attn.softmax"] = share >= SOFTMAX_THRESHOLD * share.amax(-1, keepdim=True)
        result[f"{block}.attn.out_sign"] = seen[f"{block}.attn.proj"] >= 0
        result[f"{block}.norm2"] = seen[f"{block}.norm2"] >= 0
        result[f"{block}.mlp.fc1_sign"] = seen[f"{block}.mlp.fc1"] >= 0
    codes = torch.round((seen["norm"] / model.norm.step + 255) / 2)
    result["norm"] = codes[:, None]
    return {**{name: value.to(torch.uint8) for name, value in result.items()}, "logits": logits}


def agreement(model, graph_model, pixels) -> dict:
    """How far the float model and the integer model are apart on some images.

    Parameters
    ----------
    model : VisionTransformer
    graph_model : GraphModel
        The integer model, exported or loaded.

    Returns
    -------
    dict
        ``layers``: share of equal bits (or codes) by name; ``top1``: share of equal predictions;
        ``top1_differing``: images whose predictions differ; ``images``.
    """
    ours, theirs = observe(model, pixels), graph_model.observe(pixels)
    differing = ours.pop("logits").argmax(-1) != theirs["logits"].flatten(1).argmax(-1)
    return {
        "layers": {name: float((value == theirs[name]).double().mean())
                   for name, value in ours.items()},
        "top1": 1 - float(differing.double().mean()),
        "top1_differing": int(differing.sum()), "images": len(pixels),
    }
