"""The two consoles: results go to `out`, progress and complaints to `err`."""

from asdcore.terminal import Terminal

# Paths and reasons are printed as they are: no colouring of numbers, no [markup], no folding.
out = Terminal(soft_wrap=True, highlight=False, markup=False)
err = Terminal(stderr=True, soft_wrap=True, highlight=False, markup=False)
