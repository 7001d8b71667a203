"""Lines of a file to requests."""
