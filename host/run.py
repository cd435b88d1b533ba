"""The command ``run``: a build on a board, real or simulated, against the integer model."""

import contextlib
import time

import numpy as np

from bivit.compiler.build import load_build
from bivit.compiler.ir.errors import UserError
from bivit.host.board import Board, ImageRefused, WrongBoard
from bivit.host.faults import FaultyPort
from bivit.host.serial_port import PortError, SerialPort, port_names
from bivit.host.session import NoAnswer, Refused, Session
from bivit.hw.blocks.registers import ADDRESSES
from bivit.hw.board.contents import packets
from bivit.hw.board.identity import network_hash, target_hash
from bivit.hw.board.protocol import BAUD, Identity
from bivit.sim.images import held_out_digits, load_images
from bivit.sim.stream import image_stream

__all__ = ["run_build"]

_PROBES = 2  # how often a port is asked who is there
_SIMULATED_TIMEOUT = 1.0
_ENDLESS = 1e9  # seconds: a netlist is slow, and its line loses nothing


def run_build(folder, *, port=None, simulated=False, netlist=None, faults=None, baud=BAUD,
              count=None, input_file=None, check=True, progress=None) -> dict:
    """Classify images with the board that holds the network of a build folder.

    Parameters
    ----------
    folder : path
    port : str, optional
        Its serial port; all ports are searched if not given.
    simulated : bool
        Simulate the board instead.
    netlist : str, optional
        Simulate, cell by cell, the netlist of this board's bitstream instead.
    faults : int, optional
        Seed of faults on the line.
    baud : int
        Bits per second of a real line.
    count : int, optional
        How many images; all if not given.
    input_file : path, optional
        A ``.npy`` file of uint8 images (N, C, H, W); held-out digits if not given.
    check : bool
        Compare the logits with those of the checkpoint in the folder.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        ``images``, ``classes`` (None for an image without logits), ``refused`` (image and reason),
        ``mismatches`` (images whose logits are not those of the integer model; None without
        check), ``top1`` (of the answered images with a label), ``cycles_per_image``, the identity
        and what happened on the line.

    Raises
    ------
    UserError
        If folder, images or port cannot be used, no board answers, or it is another one.
    """
    progress = progress or (lambda done, total, text="": None)
    build = load_build(folder)
    build.check_single()
    description = build.manifest["input"]
    labels = None
    if input_file is None:
        images, labels = held_out_digits(description["shape"], count)
    else:
        images = load_images(input_file, description["shape"], count)
    expected = _expected(build, images) if check else None
    with contextlib.ExitStack() as stack:
        line, session, board = _connect(stack, build, port, simulated, netlist, faults, baud,
                                        progress)
        identity = _checked(build, board.identify())
        if identity.loaded and identity.network != _network(build):
            board.load(packets(build.arch, build.memories), _network(build),
                       progress=lambda done, total: progress(done, total, "loading the network"))
        start, logits, refused = time.perf_counter(), [], []
        for index, image in enumerate(images):
            try:
                logits.append(board.classify(image_stream(image, description["patch_size"]),
                                             build.manifest["output"]["count"]))
            except ImageRefused as error:
                logits.append(None)
                refused.append({"image": index, "reason": str(error)})
            progress(index + 1, len(images), "images")
        seconds = time.perf_counter() - start
        cycles = board.read(ADDRESSES["CYCLES"])
    return {
        "port": line.name, "target": build.arch.name, "network": f"{_network(build):016x}",
        "clock_hz": identity.clock_hz, "baud": identity.baud, "images": len(images),
        **_scores(logits, labels, expected), "refused": refused, "logits": logits,
        "cycles_per_image": cycles, "seconds": seconds,
        "requests_repeated": session.repeated, "faults": getattr(line, "faults", None),
    }


def _expected(build, images):
    from bivit.sim.reference import Reference

    return Reference(build.folder, build.graph).values(images, 0, [])[1].tolist()


def _scores(logits, labels, expected):
    """Classes, mismatches and top-1 of the images that were answered."""
    classes = [None if row is None else int(np.argmax(row)) for row in logits]
    pairs = [] if labels is None else [(found, int(label)) for found, label in
                                       zip(classes, labels, strict=True) if found is not None]
    return {
        "classes": classes,
        "labels": None if labels is None else [int(label) for label in labels],
        "mismatches": None if expected is None else sum(
            row is not None and row != wanted
            for row, wanted in zip(logits, expected, strict=True)),
        "top1": sum(found == label for found, label in pairs) / len(pairs) if pairs else None,
    }


def _connect(stack, build, name, simulated, netlist, faults, baud, progress):
    """The line to the board, a session on it, the board."""
    timeout = {}
    if netlist is not None:
        line = _netlist_port(build, netlist, progress)
        session = Session(line, timeout=_ENDLESS)
        return line, session, Board(session, result_seconds=_ENDLESS)
    if simulated:
        from bivit.sim import board as simulation

        simulator = stack.enter_context(simulation.SimulatedBoard(build, progress=progress))
        name, baud = simulator.port, BAUD
        timeout = {"timeout": _SIMULATED_TIMEOUT}
    elif name is None:
        name = _find(build, baud, progress)
    line = stack.enter_context(SerialPort(name, baud))
    if faults is not None:
        line = FaultyPort(line, seed=faults)
    session = Session(line, **timeout)
    return line, session, Board(session)


def _netlist_port(build, name, progress):
    """The line of the netlist of a board's bitstream."""
    from bivit.hw.devices import DEVICES
    from bivit.hw.flow.mapped import board_netlist, board_of
    from bivit.sim.netlist_board import NetlistPort

    board = board_of(name)
    if DEVICES[board.device].route.tool not in ("ecp5", "himbaechel-gowin"):
        raise UserError(f"the cells of {board.title} have no simulation models; take a board with "
                        "an ECP5 or a GW5A")
    text = board_netlist(build.arch, build.memories, name, lambda text: progress(0, 1, text))
    return NetlistPort(text, clock_hz=board.pins.clock_hz, baud=BAUD)


def _find(build, baud, progress):
    """The port of the one board with this build."""
    names, fitting, others = port_names(), [], []
    for index, name in enumerate(names):
        progress(index, len(names), f"asking {name}")
        try:
            with SerialPort(name, baud) as line:
                identity = Board(Session(line, attempts=_PROBES)).identify()
        except (PortError, NoAnswer, Refused, WrongBoard):
            continue
        try:
            _checked(build, identity)
        except WrongBoard:
            others.append(name)
        else:
            fitting.append(name)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"more than one board has this network ({', '.join(fitting)}): choose one "
                        "with --port")
    also = f"; boards with other networks: {', '.join(others)}" if others else ""
    raise UserError(f"no board with this network was found on {len(names)} serial ports{also}; "
                    "name the port with --port, or simulate the board with --sim")


def _network(build):
    return network_hash(build.arch, build.memories)


def _checked(build, identity: Identity) -> Identity:
    """The identity, if it is that of a board for this build.

    Raises
    ------
    WrongBoard
    """
    if identity.target != target_hash(build.arch):
        raise WrongBoard(
            f"the board has another target than {build.arch.name}: an array of "
            f"{identity.geometry & 0xFFFF}x{identity.geometry >> 16}x{identity.lanes} with hash "
            f"{identity.target:016x}, not {target_hash(build.arch):016x}")
    if not identity.loaded and identity.network != _network(build):
        raise WrongBoard(
            f"the board has another network ({identity.network:016x}) than {build.folder} "
            f"({_network(build):016x}): make its bitstream from this build")
    return identity
