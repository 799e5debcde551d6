"""Systems compared on labelled test recordings: metrics with intervals, tables, the challenge's files."""
