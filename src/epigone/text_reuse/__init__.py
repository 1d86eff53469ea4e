"""Finding passages that two texts share, and keeping generated text from copying."""
