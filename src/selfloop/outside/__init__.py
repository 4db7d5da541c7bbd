"""Loops that were run elsewhere: real data and a sequence of generations become a run directory, and are judged.

The run is one like any other but for its weights, of which there are none: its experiment has generator and mixing
``outside``, the loop and its control are the two settings of the grid, repetitions are seeds. What is there already is
kept, so that a new generation costs only itself.
"""

from selfloop.outside.given import Loop, loop_of
from selfloop.outside.judging import judge, judge_loop
from selfloop.outside.recording import DEFAULT, record

__all__ = ["DEFAULT", "Loop", "judge", "judge_loop", "loop_of", "record"]
