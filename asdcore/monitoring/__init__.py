"""What watches a detector: is it reliable, has the sound drifted, may a challenger replace it."""
