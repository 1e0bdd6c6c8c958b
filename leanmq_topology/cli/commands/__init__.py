"""One file a command group, imported when the command is called."""
