"""What happens around a handler, one removable behaviour a file."""
