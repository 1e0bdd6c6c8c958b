"""Hot reload: what to watch, when an edit is over, and how its code takes over from the code before it."""
