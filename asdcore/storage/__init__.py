"""Files, the home folder, and object storage."""
