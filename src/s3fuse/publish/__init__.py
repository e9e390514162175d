"""Outputs: uploaded, verified, and noted while they are on their way."""
