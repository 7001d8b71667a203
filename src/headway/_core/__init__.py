"""The pure core: every decision, and no clock, no random number, no I/O of its own."""
