"""File text to values with positions: reading, interpolation, includes and overlays."""
