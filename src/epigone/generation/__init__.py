"""From a model and a prompt to text: sampling, stopping, batching and streaming; and the likelihood of a given text."""
