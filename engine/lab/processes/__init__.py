"""Processes: how the lab starts, forks and ends them, and what they use."""
