"""The command line: one file per command, each calling into the core and printing what it answers."""
