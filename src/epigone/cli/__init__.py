"""The command line: parsing, what is shown on the terminal, and exit codes."""
