"""Documents in, token ids in a memory-mapped file out."""
