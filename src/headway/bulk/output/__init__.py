"""Answers to rows, rows to files, and the journal beside them."""
