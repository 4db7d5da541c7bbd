"""Checkpoints of other projects, read without executing anything that they hold."""

from selfloop.interop.formats import Imported, describe, export, read_checkpoint

__all__ = ["Imported", "describe", "export", "read_checkpoint"]
