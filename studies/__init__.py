"""Studies whose results the documentation shows: what they compute or simulate, and the tables they print."""
