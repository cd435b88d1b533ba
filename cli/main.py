"""The command ``bivit``: every subcommand parses, calls one Python function, prints the result."""

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from bivit.cli.explore import explore
from bivit.cli.hardware import bitstream, run, synth
from bivit.cli.options import Debug, Json, Target
from bivit.cli.output import STOPPED, UNUSABLE, execute
from bivit.hw.targets import DEFAULT

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Binary vision transformers on FPGAs, bit for bit and cycle for cycle.",
    epilog="Exit status: 0 done, 1 a check failed, 2 the input was unusable, 3 a defect of bivit, "
           "130 stopped by Ctrl-C.")

class Engine(enum.StrEnum):
    """What runs the program."""

    RTL = "rtl"
    ISS = "iss"


class Pixels(enum.StrEnum):
    """How the colours of images were scaled in training."""

    IMAGENET = "imagenet"
    HALF = "half"


@app.command(short_help="Compile the shipped network and check it in RTL, bit for bit.")
def demo(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Build folder.")]
    = Path("build/demo"),
    target: Target = None,
    images: Annotated[int, typer.Option(min=1, help="Held-out digits to simulate.")] = 100,
    as_json: Json = False, debug: Debug = False,
):
    """Compile the shipped network, simulate held-out digits in RTL and check every bit."""
    from bivit.cli import show

    def action(progress):
        from bivit.sim.demo import demo

        return demo(folder, target=target, images=images, progress=progress)

    execute(action, show.demo, as_json=as_json, debug=debug,
            passed=lambda result: result["mismatches"] == 0)


@app.command(short_help="Train a network on the digits, or by a recipe on a folder of images.")
def train(
    what: Annotated[str, typer.Argument(
        metavar="digits|RECIPE", help="digits: scikit-learn's, turned into integers and exported. "
                                      "Else the name of a recipe or a .toml file: trained on "
                                      "--data, written as a float network.")],
    output: Annotated[Path, typer.Option(
        "-o", "--output", help="Checkpoint to write; of a recipe, float network for bivit "
                               "convert.")],
    data: Annotated[Path | None, typer.Option(
        help="Images for a recipe: train/CLASS/image and val/CLASS/image, or CLASS/image.")]
    = None,
    teacher: Annotated[Path | None, typer.Option(
        help="Float network that the recipe learns from, from bivit import.")] = None,
    model: Annotated[str | None, typer.Option(
        help="Digits network: bivit_digits (if not given), bi_vit_digits or binaryvit_digits.")]
    = None,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted run stopped.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="PyTorch threads; equal threads on one "
                                                     "machine give equal bytes.")] = 2,
    workers: Annotated[int | None, typer.Option(
        min=0, help="Processes that decode images; all cores but one if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Where the random numbers start.")] = 0,
    float_output: Annotated[Path | None, typer.Option(
        "--float-output", help="Write the trained digits network in float there, for bivit "
                               "convert.")]
    = None,
    as_json: Json = False, debug: Debug = False,
):
    """Train a network on the digits, or by a recipe on a folder of images."""
    from bivit.cli import show

    def action(progress):
        from bivit.models.training.command import run

        return run(what, output, model=model, data=data, teacher=teacher, float_out=float_output,
                   resume=resume, threads=threads, workers=workers, seed=seed, progress=progress)

    execute(action, show.train, as_json=as_json, debug=debug)


@app.command(short_help="Turn a trained float network into a checkpoint.")
def convert(
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write.")],
    float_model: Annotated[Path | None, typer.Argument(
        help="Float network, from bivit train or bivit import.")] = None,
    calibration: Annotated[Path | None, typer.Option(
        help="Images that show how large values get: .npy, uint8, (count, channels, height, "
             "width); the training digits, or scikit-learn's two photographs, if not given.")]
    = None,
    network: Annotated[str | None, typer.Option(
        help="With --random: the network to make (bivit models lists them).")] = None,
    random: Annotated[int | None, typer.Option(
        min=0, metavar="SEED", help="Instead of a float network: one with random weights, from "
                                    "this seed.")] = None,
    stem_bits: Annotated[int | None, typer.Option(
        min=1, max=8, help="Bits of each weight of the patch embedding: without a stem engine its "
                           "cycles go with them.")] = None,
    as_json: Json = False, debug: Debug = False,
):
    """Turn a trained float network, or one with random weights, into a checkpoint of integers."""
    from bivit.cli import show

    def action(progress):
        from bivit.models.conversion.command import run

        return run(output, float_model, network=network, seed=random, calibration=calibration,
                   stem_bits=stem_bits)

    execute(action, show.converted, as_json=as_json, debug=debug)


@app.command("import", short_help="Recognise and check somebody else's checkpoint.")
def import_(
    file: Annotated[Path, typer.Argument(help="Checkpoint of timm, DeiT, Swin, BinaryViT, BiViT "
                                              "or Bi-ViT (PyTorch or safetensors).")],
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="Float network to write, for bivit convert; without it the "
                               "checkpoint is only checked.")] = None,
    calibration: Annotated[Path | None, typer.Option(
        help="Images to count sign ties on: .npy, uint8, (count, channels, height, width); "
             "scikit-learn's two photographs if not given.")] = None,
    network: Annotated[str | None, typer.Option(
        help="Network to make, where names and shapes leave a choice (bivit models lists them).")]
    = None,
    pixels: Annotated[Pixels, typer.Option(
        help="What training took from the colours: imagenet, its means and deviations; half, 1/2 "
             "and 1/2.")] = Pixels.IMAGENET,
    as_json: Json = False, debug: Debug = False,
):
    """Recognise somebody else's checkpoint, check it, and write it as a float network."""
    from bivit.cli import show

    def action(progress):
        from bivit.models.importers import import_file

        return import_file(file, output, calibration=calibration, network=network,
                           pixels=pixels.value)

    execute(action, show.imported, as_json=as_json, debug=debug)


@app.command("compile", short_help="Turn a checkpoint into Verilog, ROM images and a program.")
def compile_(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint (.safetensors).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Build folder to write.")],
    target: Target = None,
    batch: Annotated[int, typer.Option(
        min=1, max=64, help="Images that run at once and share each load of weights.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older build.")]
    = False,
    as_json: Json = False, debug: Debug = False,
):
    """Turn a checkpoint into Verilog, ROM images and a program for a target."""
    from bivit.cli import show

    def action(progress):
        from bivit.compiler import compile
        from bivit.sim.report import report

        compile(checkpoint, DEFAULT if target is None else target, output, batch=batch,
                overwrite=overwrite, progress=progress)
        return report(output)

    execute(action, show.compiled, as_json=as_json, debug=debug)


@app.command(short_help="Run a build on images; compare it with PyTorch.")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Build folder.")],
    images: Annotated[int | None, typer.Option(
        min=1, help="How many images, all if not given; held-out digits unless --input is "
                    "given.")] = None,
    input_file: Annotated[Path | None, typer.Option(
        "--input", help="Images to take instead: .npy, uint8, (count, channels, height, width).")]
    = None,
    engine: Annotated[Engine, typer.Option(help="rtl: the Verilog in Verilator; iss: the "
                                                "instruction-set simulator.")] = Engine.RTL,
    check: Annotated[bool, typer.Option("--check", help="Compare with the PyTorch integer model.")]
    = False,
    observe: Annotated[int, typer.Option(
        min=0, help="With --check, how many images to compare at every observation point and not "
                    "in logits alone.")] = 16,
    ignore_hashes: Annotated[bool, typer.Option(
        "--ignore-hashes", help="Take a build folder whose files were changed.")] = False,
    trace: Annotated[Path | None, typer.Option(
        help="Write waves (.fst) of the first image there; rtl only.")] = None,
    stall_seed: Annotated[int | None, typer.Option(
        min=0, max=2**31 - 1, help="Stall both streams at random, from this seed; rtl only.")]
    = None,
    in_a_row: Annotated[bool, typer.Option(
        "--in-a-row", help="Run all images in one start and tell latency from interval; rtl "
                           "only.")] = False,
    memory: Annotated[str | None, typer.Option(
        metavar="latency=N,interval=N,write_latency=N,stalls=SEED",
        help="External memory of a streamed target: cycles to the first beat, from beat to beat, "
             "to the answer of a write, stalls from a seed.")] = None,
    as_json: Json = False, debug: Debug = False,
):
    """Run a build on images; with --check compare it with PyTorch, bit for bit."""
    from bivit.cli import show

    def action(progress):
        from bivit.sim.demo import simulate_build
        from bivit.sim.external import memory_timing

        return simulate_build(
            folder, count=images, input_file=input_file, engine=engine.value, check=check,
            observe=observe, ignore_hashes=ignore_hashes, trace=trace, stall_seed=stall_seed,
            memory=memory_timing(memory) if memory else None, in_a_row=in_a_row,
            progress=progress)

    execute(action, show.simulate, as_json=as_json, debug=debug,
            passed=lambda result: not result["mismatches"])


@app.command(short_help="Show where the cycles go, and the memory in use.")
def report(
    folder: Annotated[Path, typer.Argument(help="Build folder.")],
    html: Annotated[Path | None, typer.Option(
        help="Write a page with timeline, lost cycles, roofline and memory map there; it needs no "
             "network.")] = None,
    trace: Annotated[Path | None, typer.Option(
        help="Write a trace for ui.perfetto.dev there (.json or .json.gz); a cycle is 1 us.")]
    = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
    = False,
    as_json: Json = False, debug: Debug = False,
):
    """Show cycles per layer and unit, where the array's cycles go, and the memory in use."""
    from bivit.cli import show

    def action(progress):
        from bivit.sim import report, report_files

        if html or trace:
            return report_files.report_with_files(folder, html=html, trace=trace,
                                                  overwrite=overwrite)
        return report.report(folder)

    execute(action, show.report, as_json=as_json, debug=debug)


app.command(short_help="Make the bitstream of a build for a board.")(bitstream)
app.command(short_help="Classify images with a board, real or simulated.")(run)
app.command(short_help="Synthesise a build for a device; place and route it.")(synth)
app.command(short_help="Search hardware and networks for the best designs.")(explore)


@app.command()
def models(as_json: Json = False, debug: Debug = False):
    """List the networks that bivit knows and ships."""
    from bivit.cli import show

    def action(progress):
        from bivit.models.registry import listing

        return {"models": listing()}

    execute(action, show.models, as_json=as_json, debug=debug)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line on `arguments` (those of the process if None) and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the parser
            raise
        print(f"bivit: {error.format_message()} (bivit --help lists the commands)",
              file=sys.stderr)
        status = UNUSABLE
    if status == STOPPED:  # typer may turn the interrupt into its status
        print("bivit: stopped", file=sys.stderr)
    sys.exit(status)
