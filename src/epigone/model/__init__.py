"""GPT-2 models: finding, checking, building, loading and saving them, their training loss and their fast decoder."""
