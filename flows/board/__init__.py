"""The board: a web page for the shift, rendered here, without scripts."""
