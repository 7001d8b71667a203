"""What a terminal shows: of a run, and of what is watched."""
