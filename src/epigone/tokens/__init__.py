"""A byte-level BPE tokenizer, and token ids in memory-mapped files."""
