"""The demo and the command ``simulate``: a build on digits or on images of the user's."""

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.hw.targets import DEFAULT
from bivit.sim.images import held_out_digits, load_images
from bivit.sim.report import report
from bivit.sim.simulate import simulate

__all__ = ["demo", "simulate_build"]

_SHOWN = 16


def demo(folder, *, target=None, images=100, progress=None) -> dict:
    """Compile the shipped network and run it in RTL on held-out digits, checking every bit.

    Parameters
    ----------
    folder : path
        Build folder; an older build there is replaced.
    target : str, optional
    images : int
        How many digits; all of them are compared at every observation point.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        What :func:`simulate_build` gives, ``utilization`` of the array on the binary layers,
        ``report`` (:func:`bivit.sim.report.report`) and ``pictures``: digits to show, wrong ones
        first.
    """
    from bivit.models.digits import CHECKPOINT

    compile(CHECKPOINT, DEFAULT if target is None else target, folder, overwrite=True,
            progress=progress)
    result = simulate_build(folder, count=images, engine="rtl", check=True, observe=images,
                            progress=progress)
    cycles = report(folder)
    pixels, labels = held_out_digits(load_build(folder).manifest["input"]["shape"], images)
    order = sorted(range(images), key=lambda index: result["classes"][index] == labels[index])
    pictures = [{"label": int(labels[index]), "prediction": result["classes"][index],
                 "pixels": pixels[index, 0].tolist()} for index in order[:_SHOWN]]
    return result | {"utilization": cycles["utilization"], "report": cycles, "pictures": pictures}


def simulate_build(folder, *, count=None, input_file=None, progress=None, **options) -> dict:
    """Run a build folder on held-out digits, or on the images of a file.

    Parameters
    ----------
    folder : path
    count : int, optional
        How many images; all if not given.
    input_file : path, optional
        A ``.npy`` file of uint8 images (N, C, H, W).
    progress : callable (done, total, text), optional
    options
        For :func:`bivit.sim.simulate.simulate`.

    Returns
    -------
    dict
        The simulation report, and ``top1`` (None for images of the user's).
    """
    build = load_build(folder, ignore_hashes=options.get("ignore_hashes", False))
    shape, labels = build.manifest["input"]["shape"], None
    if input_file is None:
        images, labels = held_out_digits(shape, count)
    else:
        images = load_images(input_file, shape, count)
    result = simulate(folder, images, progress=progress, **options).to_json()
    top1 = None
    if labels is not None and result["classes"]:
        top1 = sum(int(found == label) for found, label in
                   zip(result["classes"], labels, strict=True)) / len(labels)
    return result | {"top1": top1}
