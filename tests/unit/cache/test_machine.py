"""Sequences of all that happens to a cache, with gateways in this process and in others."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from unit.cache.machine import Elsewhere, Here, machine

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]


def run(kind: type[Here] | type[Elsewhere], sequences: int) -> None:
    run_state_machine_as_test(
        machine(kind),
        settings=settings(
            max_examples=sequences,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=CHECKS,
        ),
    )


def test_some_sequences() -> None:
    run(Here, 30)


@pytest.mark.slow
def test_500_sequences() -> None:
    run(Here, 500)


@pytest.mark.slow
def test_sequences_of_real_processes() -> None:
    run(Elsewhere, 20)
