"""The command line: opens any room, from inside the command that needs it."""
