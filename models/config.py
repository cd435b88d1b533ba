"""The shapes of vision transformers."""

import dataclasses

__all__ = ["BinaryViTConfig", "PyramidConfig", "StageConfig", "ViTConfig"]


def _check_stem(bits):
    if not 1 <= bits <= 8:
        raise ValueError(f"stem_bits {bits} is not from 1 to 8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Sizes of a vision transformer, under timm's names.

    Parameters
    ----------
    img_size : int or (int, int)
        Side of a square image, or (height, width).
    class_token : bool
        Put a learned token before the patches and classify it; without one, the first patch's
        token is classified.
    stem_bits : int
        Bits of the patch embedding's weights in the integer form, and so its bit planes: 1 to 8.
    """

    img_size: int | tuple[int, int] = 224
    in_chans: int = 3
    patch_size: int = 16
    stem_bits: int = 8
    num_classes: int = 1000
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    class_token: bool = True
    norm_eps: float = 1e-5

    def __post_init__(self):
        _check_stem(self.stem_bits)
        height, width = self.image_shape[1:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide the image "
                             f"{height}x{width}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide embed_dim "
                             f"{self.embed_dim}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        size = self.img_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.in_chans, height, width

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        _, height, width = self.image_shape
        return (height // self.patch_size) * (width // self.patch_size)

    @property
    def num_tokens(self) -> int:
        """Tokens of the sequence."""
        return self.num_patches + self.class_token

    @property
    def patch_pixels(self) -> int:
        """Numbers in one patch."""
        return self.in_chans * self.patch_size**2

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def hidden_dim(self) -> int:
        """Channels inside the MLP."""
        return max(1, int(self.embed_dim * self.mlp_ratio))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Sizes of the blocks of one stage of a pyramid.

    Parameters
    ----------
    window_size : int, optional
        Side of the windows that attend to themselves.
    """

    embed_dim: int
    num_heads: int
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5
    window_size: int | None = None

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def hidden_dim(self) -> int:
        """Channels inside the MLP."""
        return int(self.embed_dim * self.mlp_ratio)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """What the pyramids have in common: square images, patches, stages that halve the side.

    `stem_bits` is that of :class:`ViTConfig`.
    """

    img_size: int = 224
    in_chans: int = 3
    patch_size: int = 4
    stem_bits: int = 8
    num_classes: int = 1000
    embed_dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    norm_eps: float = 1e-5

    def __post_init__(self):
        _check_stem(self.stem_bits)
        stages = len(self.embed_dims)
        if not stages == len(self.depths) == len(self.num_heads):
            raise ValueError("embed_dims, depths and num_heads must name the same stages")
        if self.img_size % (self.patch_size << (stages - 1)):
            raise ValueError(f"img_size {self.img_size} is no multiple of patch_size "
                             f"{self.patch_size} times {1 << (stages - 1)}")
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads:
                raise ValueError(f"num_heads {heads} does not divide embed_dim {dim}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.in_chans, self.img_size, self.img_size

    @property
    def embed_dim(self) -> int:
        """Channels of the first stage."""
        return self.embed_dims[0]

    @property
    def sides(self) -> tuple[int, ...]:
        """Tokens along one side of the image, by stage."""
        return tuple(self.img_size // (self.patch_size << stage)
                     for stage in range(len(self.embed_dims)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryViTConfig(PyramidConfig):
    """Sizes of BinaryViT; the flags leave out what the paper adds.

    Parameters
    ----------
    reductions : tuple of int
        Side of the squares of tokens that are averaged to one key, by stage.
    average_head : bool
        Classify the mean of all tokens; else the first patch's token.
    branches : bool
        Four average poolings beside every MLP.
    affine : bool
        Scale and shift before every residual.
    """

    embed_dims: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (3, 4, 8, 4)
    num_heads: tuple[int, ...] = (1, 2, 4, 8)
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    reductions: tuple[int, ...] = (8, 4, 1, 1)
    average_head: bool = True
    branches: bool = True
    affine: bool = True

    def __post_init__(self):
        super().__post_init__()
        for side, reduction in zip(self.sides, self.reductions, strict=True):
            if side % reduction:
                raise ValueError(f"reduction {reduction} does not divide {side} tokens")

    def stage(self, index) -> StageConfig:
        """Sizes of the layers of one stage."""
        return StageConfig(embed_dim=self.embed_dims[index], num_heads=self.num_heads[index],
                           mlp_ratio=self.mlp_ratios[index], norm_eps=self.norm_eps)
