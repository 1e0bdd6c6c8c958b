"""Use cases that more than one face shows: the command line now, a dashboard later."""
