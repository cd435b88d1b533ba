"""Named networks and what they cost."""

from bivit.models.config import ViTConfig

__all__ = ["MODELS", "costs"]

MODELS = {
    "bivit_digits": ViTConfig(img_size=8, in_chans=1, patch_size=2, num_classes=10, embed_dim=128,
                              depth=4, num_heads=2),
}
"""Name to configuration."""


def costs(config: ViTConfig) -> dict[str, int]:
    """Parameters, multiply-accumulates of one image and bits of a binary vision transformer.

    Returns
    -------
    dict
        ``parameters``; ``binary_macs`` and ``other_macs`` (patch embedding and head);
        ``binary_weight_bits`` and ``other_bits`` (8-bit weights of the patch embedding and the
        head, 16 bits for every other parameter).
    """
    dim, hidden, tokens = config.embed_dim, config.hidden_dim, config.num_tokens
    binary_weights = config.depth * (4 * dim * dim + 2 * dim * hidden)
    wide_weights = config.patch_pixels * dim + dim * config.num_classes
    linear_outputs = config.depth * (5 * dim + hidden)
    other = (2 * linear_outputs  # scales and biases
             + (4 * config.depth + 2) * dim  # LayerNorm
             + dim + config.num_classes  # biases of patch embedding and head
             + (config.num_tokens + config.class_token) * dim)  # positions, class token
    attention = config.depth * 2 * tokens * tokens * dim
    return {
        "parameters": binary_weights + wide_weights + other,
        "binary_macs": tokens * binary_weights + attention,
        "other_macs": config.num_patches * config.patch_pixels * dim + dim * config.num_classes,
        "binary_weight_bits": binary_weights,
        "other_bits": 8 * wide_weights + 16 * other,
    }
