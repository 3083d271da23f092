"""From the arguments of a command line to a command."""
