"""Names of files and folders, and what they say of labels."""
