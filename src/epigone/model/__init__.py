"""What the machine has, what follows from it, and the GPT-2 that is built."""
