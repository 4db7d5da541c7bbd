"""Run the command line as ``python -m selfloop``."""

from selfloop.cli.main import main

main()
