"""Text generation from a model and a prompt (sampling, stop conditions, batching, streaming), and scoring of texts."""
