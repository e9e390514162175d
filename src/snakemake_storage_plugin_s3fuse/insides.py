"""What the plugin needs to know of Snakemake beyond the storage interface, in one place.

Storage objects are told neither whether Snakemake still plans, nor why they
are to be removed.  Both can be seen from the workflow, which every file of a
rule knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.settings import ExecMode

from s3fuse.rundir import claim_ownership


class Insides:
    """The running workflow, as far as it is known yet."""

    def __init__(self) -> None:
        self.workflow: Any = None

    def learn(self, file: Any) -> None:
        """Take note of a file of a rule, which Snakemake ties to each object of a rule."""
        rule = getattr(file, "rule", None)
        if rule is None or self.workflow is rule.workflow:
            return
        self.workflow = rule.workflow
        # What the jobs of a run mount is the run's, and outlives them.
        if self.workflow.exec_mode is not ExecMode.SUBPROCESS:
            claim_ownership()

    @property
    def is_planning(self) -> bool:
        """Whether the graph of jobs is still being built.

        Snakemake remembers what it has asked until then, and drops and stops
        its cache before the first job runs.  A dry run never stops planning.
        """
        cache = getattr(self.workflow, "iocache", None)
        return bool(cache is not None and cache.active)

    def is_lasting_output(self, path: Path) -> bool:
        """Whether a rule writes this path, and not as ``temp()``."""
        if self.workflow is None:
            return False
        matching = [
            output
            for rule in self.workflow.rules
            for output in rule.output
            if output.is_storage and output.match(str(path))
        ]
        return bool(matching) and not any("temp" in output.flags for output in matching)
