"""``python -m bivit.cli``: the same as the command ``bivit``."""

from bivit.cli.main import main

main()
