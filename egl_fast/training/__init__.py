"""Training of the Deep Speech 2 family and its evaluation."""
