"""What to train, from which weights, how large, how fast and for how long, each choice with its reason."""
