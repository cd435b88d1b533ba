"""Index tensors against the float layers that move the same data."""

import torch
import torch.nn.functional as F

from bivit.models import indices
from bivit.models.windows import merge, partition


def _image(side, channels=3):
    """Integers, so that sums of them are exact in float64."""
    generator = torch.Generator().manual_seed(side)
    shape = 1, side, side, channels
    return torch.randint(-999, 1000, shape, generator=generator).to(torch.float64)


def test_windows_and_back():
    x = _image(12)
    for shift in (0, 2):
        index = indices.windows(12, 4, shift)
        moved = partition(torch.roll(x, (-shift, -shift), (1, 2)), 4)
        assert torch.equal(x.reshape(-1, 3)[index], moved.reshape(-1, 3))
        back = torch.roll(merge(moved, 4, 12), (shift, shift), (1, 2))
        assert torch.equal(moved.reshape(-1, 3)[indices.inverse(index)], back.reshape(-1, 3))


def test_merging_is_swins_order():
    x = _image(6)
    joined = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
    assert torch.equal(x.reshape(-1, 3)[indices.merging(6)].flatten(1), joined.reshape(9, 12))


def test_neighbours_pool_like_torch():
    x = _image(8)
    padded = torch.cat([x.reshape(-1, 3), torch.zeros(1, 3)])
    image = x.permute(0, 3, 1, 2)
    for kernel, stride in (((3, 1), 1), ((1, 5), 1), ((4, 4), 4), ((3, 3), 2), ((8, 8), 8)):
        margin = tuple(size // 2 if size % 2 else 0 for size in kernel)
        pooled = F.avg_pool2d(image, kernel, stride, margin, divisor_override=1)
        taps = padded[indices.neighbours(8, kernel, stride)].sum(1)
        assert torch.equal(taps, pooled.flatten(2)[0].T)


def test_spread_is_nearest_upsampling():
    x = _image(3)
    large = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=4, mode="nearest")
    assert torch.equal(x.reshape(-1, 3)[indices.spread(3, 4)], large.flatten(2)[0].T)
