"""The commands, one a module: its name is the command's, its function ``command`` is what the command does.

A new module here is a new command, and nothing else needs to know. All of them are imported for ``selfloop --help``,
so that one imports what takes long, torch above all, inside its functions. An underscore at the end of a name is
Python's alone: ``import_`` is the command ``import``.
"""
