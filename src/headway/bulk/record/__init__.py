"""What was measured while a run went."""
