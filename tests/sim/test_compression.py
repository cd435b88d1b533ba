"""The compression that FST waves need, against decoders that know nothing of it."""

import random
import shutil
import subprocess
import zlib

import pytest

from bivit.sim.rtl_build import ACCELERATOR, COMPILERS

PROGRAM = r"""
#include "lz4.h"
#include "zlib.h"
#include <cstdio>
#include <iterator>
#include <string>
int main() {
    std::string in;
    for (int c; (c = std::getchar()) != EOF;) in.push_back(static_cast<char>(c));
    std::string out(compressBound(in.size()) + LZ4_compressBound(in.size()), 0);
    const int size = LZ4_compress_default(in.data(), &out[0], in.size(), out.size());
    std::printf("%08x", size);
    std::fwrite(out.data(), 1, size, stdout);
    unsigned long deflated = out.size();
    if (compress2(reinterpret_cast<Bytef*>(&out[0]), &deflated,
                  reinterpret_cast<const Bytef*>(in.data()), in.size(), 4) != Z_OK) return 1;
    std::fwrite(out.data(), 1, deflated, stdout);
}
"""
RANDOM = random.Random(3)
DATA = {
    "nothing": b"",
    "one": b"x",
    "twelve": b"aaaaaaaaaaaa",
    "thirteen": b"aaaaaaaaaaaaa",
    "zeros": bytes(100_000),
    "noise": RANDOM.randbytes(70_000),
    "words": b"".join(RANDOM.choice([b"valid", b"ready", b"data", b"\0\1"]) for _ in range(30_000)),
    "far": (far := RANDOM.randbytes(300)) + RANDOM.randbytes(65_500) + far,
}


def unpack_lz4(block):
    out, at = bytearray(), 0
    while at < len(block):
        token, at = block[at], at + 1

        def length(start):
            nonlocal at
            while start >= 15 and (start - 15) % 255 == 0:
                start, at = start + block[at], at + 1
                if block[at - 1] < 255:
                    break
            return start

        count = length(token >> 4)
        out += block[at:at + count]
        at += count
        if at == len(block):
            return bytes(out)
        offset, at = int.from_bytes(block[at:at + 2], "little"), at + 2
        assert 0 < offset <= len(out)
        for _ in range(length(token & 15) + 4):
            out.append(out[-offset])
    raise AssertionError("the block does not end with literals")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compression")
    (folder / "main.cpp").write_text(PROGRAM)
    compiler = next(filter(None, map(shutil.which, COMPILERS)))
    subprocess.run([compiler, "-std=gnu++17", "-Wall", "-Wextra", "-Werror", "-Wno-sign-compare",
                    f"-I{ACCELERATOR.source.parent}", "main.cpp", "-o", "main"], cwd=folder,
                   check=True)
    return folder / "main"


@pytest.mark.parametrize("name", DATA)
def test_decoders_give_the_data_back(program, name):
    done = subprocess.run([program], input=DATA[name], capture_output=True, check=True).stdout
    size = int(done[:8], 16)
    assert unpack_lz4(done[8:8 + size]) == DATA[name]
    assert zlib.decompress(done[8 + size:]) == DATA[name]


def test_repeated_data_gets_smaller(program):
    done = subprocess.run([program], input=DATA["zeros"], capture_output=True, check=True).stdout
    assert int(done[:8], 16) < 1000
