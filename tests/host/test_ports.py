"""The command on ports: boards found, wrong ones and missing ones."""

import contextlib
import os
import threading
import tty

import pytest

from bivit.cli.main import main
from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.errors import UserError
from bivit.host import run
from bivit.host.serial_port import PortError, SerialPort
from bivit.hw.board.identity import network_hash
from bivit.hw.board.protocol import FrameReader, Kind, frame_bytes
from bivit.hw.targets import TARGETS
from board_model import BoardModel
from graphs import random_vit_graph


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ports")
    checkpoint.save(random_vit_graph(1, image_shape=(1, 8, 8), num_classes=10),
                    folder / "net.safetensors")
    compile(folder / "net.safetensors", "tiny", folder / "build")
    return load_build(folder / "build")


@contextlib.contextmanager
def terminal(model):
    """A terminal with the board's model at its end."""
    inner, outer = os.openpty()
    tty.setraw(outer)

    def serve():
        with contextlib.suppress(OSError):
            while data := os.read(inner, 4096):
                os.write(inner, model.feed(data))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield os.ttyname(outer)
    os.close(outer)
    thread.join(5)
    os.close(inner)


def own(build):
    return BoardModel(build.arch, network=network_hash(build.arch, build.memories))


def test_a_port():
    with terminal(BoardModel(TARGETS["tiny"])) as name, SerialPort(name, 1_000_000) as port:
        port.write(frame_bytes(Kind.IDENTIFY, 9))
        heard = b""
        while not (frames := FrameReader().feed(heard)):
            assert (part := port.read(5.0))
            heard += part
        assert frames[0].sequence == 9 and port.read(0.01) == b""
        with pytest.raises(PortError, match="cannot be opened: "):
            SerialPort(name, 1_000_000)  # it is taken


def test_logits_are_compared(build):
    """The model's machine adds up bytes, so all its logits are wrong."""
    with terminal(own(build)) as name:
        result = run.run_build(build.folder, port=name, count=3)
    assert (result["images"], result["mismatches"], result["refused"]) == (3, 3, [])


def test_search(build, monkeypatch, tmp_path):
    def search(*names):
        monkeypatch.setattr(run, "port_names", lambda: list(names))
        return run.run_build(build.folder, count=1, check=False)["port"]

    with terminal(own(build)) as first, terminal(own(build)) as second, \
            terminal(BoardModel(build.arch, network=5)) as other:
        assert search(other, str(tmp_path / "none"), first) == first
        with pytest.raises(UserError, match="^more than one board has this network"):
            search(first, second)
        with pytest.raises(UserError, match=f"found on 1 serial ports; boards with other networks: "
                                            f"{other}; name the port"):
            search(other)


@pytest.mark.parametrize("model, message", [
    (BoardModel(TARGETS["tiny"], network=5), "the board has another network (0000000000000005)"),
    (BoardModel(TARGETS["odd"]), "the board has another target than tiny: an array of 3x5x24")])
def test_another_board_is_refused(build, model, message, capsys):
    with terminal(model) as name:
        status, said = command(capsys, build.folder, "--port", name)
    assert status == 2 and message in said


def test_unusable_ports(build, capsys, tmp_path):
    status, said = command(capsys, build.folder, "--port", tmp_path / "none")
    assert status == 2 and "none cannot be opened: " in said
    status, said = command(capsys, build.folder, "--sim", "--port", "x")
    assert status == 2 and "--sim brings its own port" in said
    status, said = command(capsys, build.folder, "--netlist", "ulx3s-85f", "--baud", 9600)
    assert status == 2 and "--netlist brings its own line" in said


def test_refused_images_are_failures(build, capsys):
    model = own(build)
    model.fails = set(range(8))
    with terminal(model) as name:
        status, _ = command(capsys, build.folder, "--port", name, "--images", 2, "--no-check")
    assert status == 1


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments)])
    return exit_.value.code, capsys.readouterr().err
