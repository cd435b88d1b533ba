"""The committed reference page is the one that the instruction set gives."""

import pathlib

from bivit.hw.isa_reference import isa_reference

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "isa.md"


def test_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == isa_reference()
