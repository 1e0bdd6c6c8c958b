"""The modules that the example of the language's reference names."""
