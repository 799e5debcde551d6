"""Recordings to start with: simulated machines, and those of the challenge."""
