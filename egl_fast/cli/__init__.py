"""The command line: one module a command, see ``main``."""
