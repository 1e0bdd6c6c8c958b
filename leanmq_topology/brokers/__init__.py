"""Servers behind one seam (protocol); connect chooses one by URL."""
