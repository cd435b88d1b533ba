"""``bivit convert``: a float network from a file, or one with random weights, to a checkpoint."""

from bivit.compiler.ir.errors import UserError
from bivit.models.floats import convert_file, load_float
from bivit.models.random_networks import convert_random
from bivit.models.registry import network as named
from bivit.sim.images import calibration_images

__all__ = ["run"]


def run(out, float_model=None, *, network=None, seed=None, calibration=None,
        stem_bits=None) -> dict:
    """Convert one of the two.

    Parameters
    ----------
    out : path-like
        The checkpoint to write.
    float_model : path-like, optional
    network : str, optional
        Name of a network with random weights from `seed`.
    seed : int, optional
    calibration : path-like, optional
        Images (.npy) that binary points come from.
    stem_bits : int, optional
        Bits of the patch embedding's weights; 8, or what the float network says, if not given.

    Returns
    -------
    dict
        ``checkpoint``, ``layers`` and, of a random network, ``ones``: share by layer.

    Raises
    ------
    UserError
        In one sentence.
    """
    if (network is None) != (seed is None) or (float_model is None) == (seed is None):
        raise UserError("there is no telling what to convert; give a float network, or --random "
                        "SEED and --network NAME")
    if float_model is None:
        try:
            own = named(network).with_stem(stem_bits)
        except ValueError as error:
            raise UserError(str(error)) from None
        images = calibration_images(own.config.image_shape, calibration)
        return convert_random(network, seed, out, images, own=own)
    shape = load_float(float_model).config.image_shape
    graph = convert_file(float_model, out, calibration_images(shape, calibration),
                         stem_bits=stem_bits)
    return {"checkpoint": str(out), "layers": len(graph.nodes)}
