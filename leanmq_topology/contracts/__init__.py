"""What a message may be: schemas compiled once, matching, payload rules, encoding."""
