"""Sinks of events, one small file each."""
