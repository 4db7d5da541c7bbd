"""The command line, one command a file."""

from selfloop.cli.main import main

__all__ = ["main"]
