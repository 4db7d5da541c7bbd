"""The command line, one command a file of :mod:`selfloop.cli.commands`."""
