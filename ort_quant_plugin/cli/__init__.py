"""The command line: one module per verb; each loads, calls the public API and prints."""
