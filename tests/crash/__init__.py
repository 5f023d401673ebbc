"""Crashes of real processes: an engine is killed for good, and a new one goes on."""
