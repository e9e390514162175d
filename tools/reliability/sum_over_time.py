"""Sum a cube over time, lazily, and write a digest of the sums."""

import hashlib
import sys
from pathlib import Path

import iris
import iris.analysis

cube = iris.load_cube(sys.argv[1])
# Tells the tests that Iris reads from now on.
Path("reading").touch()
sums = cube.collapsed("time", iris.analysis.SUM).data
Path(sys.argv[2]).write_text(f"{hashlib.sha256(sums.astype('i8').tobytes()).hexdigest()}\n")
