"""Published checkpoints to networks of the registry; :func:`import_file` does it all."""

import dataclasses

import torch

from bivit.models import registry
from bivit.models.baselines import BiRealLinear, MeanLinear
from bivit.models.floats import save_float
from bivit.models.foreign import ForeignFileError, read_tensors
from bivit.models.headwise import HeadMerge
from bivit.models.layers import BinaryLinear
from bivit.models.photographs import photographs
from bivit.models.pixels import PATCHES, PIXELS, take_up_pixels
from bivit.models.recognition import choose, recognise, sized, some, to_timm
from bivit.models.shifted import BinaryConv
from bivit.models.ties import count_ties

__all__ = ["Import", "convert_tensors", "import_file"]

SIGNS = (
    (BinaryLinear, "sign(w - mean of the row)", "learned scaling_factor of the row"),
    (BiRealLinear, "sign(w), not centred", "mean |w| of the row; its bias is never added"),
    (MeanLinear, "sign(w - mean of the row)", "mean |w| of the row"),
    (BinaryConv, "sign(w), not centred", "mean |w| of the output channel"),
    (HeadMerge, "sign(w / alpha), not centred", "learned alpha of the row, and of every input"),
)
"""Binary layers, what their bits are the signs of, and their scales."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    """What an import found and did.

    Parameters
    ----------
    recognised, network : str
        Whose tensors, and the network of the registry that they became.
    also_fits : list of str
        Networks with the same names and shapes, of which `network` was chosen.
    classes, tensors, parameters, renamed, dropped : int
        Classes of the head; tensors in the file; parameters of the network; tensors that have
        another name now; buffers that are computed instead.
    pixels : str
        Key of :data:`~bivit.models.pixels.PIXELS` that the patch embedding has taken up.
    binary_layers : list of dict
        ``layers`` (how many), ``signs`` (what of) and ``scale``.
    negative_scales : int
        Learned scales of rows below zero.
    images : int
        On how many images the ties were counted.
    ties : list of Ties
        Zeros under signs, by layer.
    output : str or None
        The file that was written.
    """

    recognised: str
    network: str
    also_fits: list
    classes: int
    tensors: int
    parameters: int
    renamed: int
    dropped: int
    pixels: str
    binary_layers: list
    negative_scales: int
    images: int
    ties: list
    output: str | None


def convert_tensors(tensors, *, network=None, pixels="imagenet", path="the checkpoint"):
    """A network of the registry with the parameters of a foreign state dict.

    Parameters
    ----------
    tensors : dict of str to tensor
    network : str, optional
        Its name, where names and shapes leave a choice; else the first of :func:`choose`.
    pixels : str
        Key of :data:`~bivit.models.pixels.PIXELS`.
    path : str or path
        What a refusal calls the checkpoint.

    Returns
    -------
    model : module
        In evaluation mode.
    facts : dict
        Fields of :class:`Import` that are known by now.

    Raises
    ------
    ForeignFileError
    """
    if pixels not in PIXELS:
        raise ForeignFileError(f"pixels cannot be {pixels!r}; take one of {', '.join(PIXELS)}")
    if network is not None and network not in registry.networks():
        raise ForeignFileError(f"there is no network {network}; `bivit models` lists them")
    recognised = recognise(tensors, path)
    named = to_timm(tensors) if recognised.official_names else tensors
    buffers = {name: value for name, value in named.items()
               if name.rpartition(".")[2] in ("relative_position_index", "attn_mask")}
    named = {name: value for name, value in named.items() if name not in buffers}
    fitting = choose(recognised, named, path)
    name = network or fitting[0]
    entry = sized(name, named)
    model = _fitting(entry, named, f"{path} looks like {recognised}, but does not fit {name}")
    _check_buffers(model, buffers, path)
    if entry.config.in_chans != 3:
        raise ForeignFileError(f"{name} takes grey images, and only networks for colours can be "
                               "imported")
    state = dict(named)
    keys = [f"{PATCHES.get(recognised.backbone, 'patch_embed.proj')}.{part}"
            for part in ("weight", "bias")]
    state |= dict(zip(keys, take_up_pixels(*(state[key] for key in keys), pixels), strict=True))
    model.load_state_dict(state)
    return model.eval(), {
        "recognised": str(recognised), "network": name,
        "also_fits": [other for other in fitting if other != name],
        "classes": entry.config.num_classes, "tensors": len(tensors),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "renamed": sum(name not in tensors for name in named), "dropped": len(buffers),
        "pixels": pixels}


def _fitting(entry, tensors, sentence):
    """The network, if names, shapes and types are those of the tensors."""
    with torch.device("meta"):
        expected = entry.build().state_dict()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    wrong = [f"{name} is {_kind(tensors[name])} and not {_kind(value)}"
             for name, value in expected.items() if name in tensors
             and _kind(value) != _kind(tensors[name])]
    parts = [f"{_count(names)} {text} ({some(names)})" for names, text in (
        (missing, "missing"), (unexpected, "unexpected"), (wrong, "of wrong shape or type"))
        if names]
    if parts:
        raise ForeignFileError(f"{sentence}: {', '.join(parts)}")
    return entry.build()


def _kind(value):
    shape = "x".join(map(str, value.shape)) or "a scalar"
    return shape if value.is_floating_point() else f"{shape} of integers"


def _count(names):
    return f"{len(names):,} tensor{'s' if len(names) > 1 else ''}"


def _check_buffers(model, buffers, path):
    """Refuse windows or masks that are not those of the network."""
    ours = dict(model.named_buffers())
    for name, value in buffers.items():
        expected = ours.get(name)
        if expected is None or expected.shape != value.shape or not bool(
                (expected == value).all()):
            raise ForeignFileError(f"{path} holds {name} with other values than this network "
                                   "computes; its windows are not those of the published Swin")


def import_file(path, out=None, *, calibration=None, network=None, pixels="imagenet") -> Import:
    """Read, recognise and check a foreign checkpoint, count its sign ties, and write it as ours.

    Parameters
    ----------
    path : path-like
        PyTorch or safetensors file.
    out : path-like, optional
        Float file to write, for :func:`bivit.models.floats.load_float`.
    calibration : path-like, optional
        Images (.npy, uint8, (N, C, H, W)) to count ties on; else scikit-learn's photographs.
    network, pixels : str
        See :func:`convert_tensors`.

    Raises
    ------
    ForeignFileError, ImageError
    """
    from bivit.sim.images import calibration_images

    model, facts = convert_tensors(read_tensors(path), network=network, pixels=pixels, path=path)
    shape = model.config.image_shape
    images = (photographs(shape) if calibration is None
              else calibration_images(shape, calibration))
    ties = count_ties(model, images)
    if out is not None:
        save_float(model, out, name=facts["network"])
    layers = [_signs(layer) for layer in model.modules()]
    return Import(
        **facts, images=len(images), ties=ties, output=None if out is None else str(out),
        binary_layers=[{"layers": layers.count(found), "signs": found[0], "scale": found[1]}
                       for found in dict.fromkeys(layers) if found],
        negative_scales=sum(int((layer.scaling_factor < 0).sum()) for layer in model.modules()
                            if isinstance(layer, BinaryLinear)))


def _signs(layer):
    """What the bits of a layer's weight are the signs of, and its scale; None without bits."""
    return next(((signs, scale) for kind, signs, scale in SIGNS if isinstance(layer, kind)), None)
