import random

import pytest

from s3fuse.gateway import hdf5


@pytest.mark.parametrize("seed", range(20))
def test_pointers_of_nonsense_stay_in_the_file(seed: int) -> None:
    numbers = random.Random(seed)
    piece = b"".join(
        numbers.choice([b"TREE\1\1", b"TREE\1", b"BTHD\0\10", b"TREE"])
        + numbers.randbytes(numbers.randrange(60))
        for _ in range(50)
    )
    assert all(0 < position < 1000 for position in hdf5.pointers(piece, 1000))
