"""Reports: one HTML file each, without a server and without scripts."""
