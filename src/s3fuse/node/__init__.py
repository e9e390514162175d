"""The node: directories that are ours alone, locks, processes, batch jobs."""
