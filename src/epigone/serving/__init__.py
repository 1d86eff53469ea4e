"""The server: an OpenAI-compatible API and a page to write on, for the models of this machine."""
