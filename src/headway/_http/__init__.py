"""What the transports of httpx and httpx2 share."""
