"""Audio files as plants have them."""
