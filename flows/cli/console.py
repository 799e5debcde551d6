"""The two consoles: results go to `out`, progress and complaints to `err`."""

from rich.console import Console

# Paths and reasons are printed as they are: no colouring of numbers, no [markup], no folding.
out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
