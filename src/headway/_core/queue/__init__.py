"""What waits, and in which order it goes."""
