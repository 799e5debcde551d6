"""A watched folder."""
