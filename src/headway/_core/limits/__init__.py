"""What one scope (the whole, or a key) allows: pace, budgets, slots, gate, and their control."""
