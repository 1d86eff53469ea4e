"""Models for other programs: a GGUF file for llama.cpp and Ollama, and a page that runs the model in a browser."""
