"""The shell: the clock of the event loop, those who wait, and one attempt after another."""
