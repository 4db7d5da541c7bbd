"""What a loop shows: curves, verdict, stability, forecast, scores."""
