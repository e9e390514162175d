"""What is lost when things break."""
