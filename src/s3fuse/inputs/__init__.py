"""Inputs: a link into a mount, or a copy."""
