"""Batch jobs: which one this process belongs to."""

from __future__ import annotations

import os

# Where the schedulers say which batch job this is.
_BATCH_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")


def batch_job() -> str:
    """The number of the batch job that this process belongs to; empty without one."""
    return next((os.environ[name] for name in _BATCH_JOB_VARIABLES if os.environ.get(name)), "")
