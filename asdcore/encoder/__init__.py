"""The encoder, its losses, and its training."""
