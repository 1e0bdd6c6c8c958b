"""The live view of `leanmq dev` and `leanmq top`: what it shows, as text, and a terminal it is drawn on."""
