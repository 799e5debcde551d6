"""What a recording is and where it comes from."""
