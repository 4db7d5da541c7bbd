"""Run the command line as ``python -m selfloop``."""

from selfloop.cli import main

main()
