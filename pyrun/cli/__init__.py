"""The command line: parses, calls the runtime, prints. Nothing else prints or exits."""
