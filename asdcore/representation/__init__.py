"""The encoder, what it is trained for, and the training."""
