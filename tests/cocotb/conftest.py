"""Lets the tests of this folder import its modules."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
