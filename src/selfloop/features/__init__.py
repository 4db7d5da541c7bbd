"""What metrics look at: rows as they are, or what a network makes of images."""
