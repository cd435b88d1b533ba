"""A checkpoint compiled and run on both engines, every bit and every cycle checked."""

import numpy as np

from bivit.compiler.build import compile
from bivit.sim.simulate import simulate

__all__ = ["check_engines"]


def check_engines(path, target, folder, images):
    """Build into a folder; no observation point differs, and no cycle.

    Parameters
    ----------
    path : path
        The checkpoint.
    target : str or Arch
    folder : path
        Of the build; an older one is replaced.
    images : uint8 array (n, C, H, W)
    """
    compile(path, target, folder, overwrite=True)
    reports = [simulate(folder, images, engine=engine, observe=len(images))
               for engine in ("iss", "rtl")]
    for report in reports:
        assert report.mismatches == 0, f"{report.engine}: {report.first_mismatch}"
        assert report.checked and report.observed_images == len(images)
    assert np.array_equal(reports[0].logits, reports[1].logits)
    assert reports[1].cycles_per_image == reports[1].predicted_cycles_per_image
