"""Which pieces of a file are fetched before a job asks for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3fuse.gateway.strides import AHEAD, TOLERANCE, Strides

SIZE = 400_000_000
PIECE = 5 * 2**20


def test_three_places_at_equal_steps_tell_where_the_next_are() -> None:
    strides = Strides(SIZE)
    step = 31_104_000
    assert strides.next(0, PIECE) == []
    # A node of an index in between.
    assert strides.next(70_000_000, PIECE) == []
    assert strides.next(step + 6000, PIECE) == []
    found = strides.next(2 * step + 3000, PIECE)
    for number, (begin, end) in enumerate(found, 3):
        assert begin <= number * step
        assert number * step + PIECE <= end
    assert len(found) == AHEAD


@pytest.mark.parametrize("step", [PIECE, -31_104_000, 0])
def test_who_reads_on_or_back_is_not_helped(step: int) -> None:
    strides = Strides(SIZE)
    assert [strides.next(200_000_000 + number * step, PIECE) for number in range(6)] == [[]] * 6


def test_a_step_that_was_found_holds_elsewhere_in_the_file() -> None:
    strides = Strides(SIZE)
    step = 31_104_000
    for number in (9, 10, 11):
        strides.next(number * step + 2000 * number, PIECE)
    # A node of an index, and chunks that are nearer to the start.
    assert strides.next(126_504_960, PIECE) == []
    found = strides.next(5 * step + 10_000, PIECE)
    assert [round(begin / step) for begin, _ in found] == [6, 7, 8]
    assert strides.next(3 * step + step // 2, PIECE) == []


def test_looking_for_a_signature_is_not_reading_in_steps() -> None:
    strides = Strides(SIZE)
    assert strides.next(0, PIECE) == []
    assert [strides.next(2**power, PIECE) for power in range(9, 28)] == [[]] * 19


@given(places=st.lists(st.integers(0, SIZE - 1), max_size=30), length=st.integers(1, PIECE))
def test_what_is_guessed_lies_in_the_file(places: list[int], length: int) -> None:
    strides = Strides(SIZE)
    for place in places:
        guessed = strides.next(place, length)
        assert len(guessed) <= AHEAD
        for begin, end in guessed:
            assert place < begin < end <= SIZE
            assert end - begin <= length + 2 * TOLERANCE
