"""What every command has: its options, its streams, how it ends."""
