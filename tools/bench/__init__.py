"""How fast the project is, beside every other way to do its work."""
