"""Lets ``python -m s3fuse`` be the command."""

from s3fuse.cli import main

main(prog_name="s3fuse")
