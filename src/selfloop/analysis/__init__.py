"""What a loop shows: curves, verdict, stability, scores."""
