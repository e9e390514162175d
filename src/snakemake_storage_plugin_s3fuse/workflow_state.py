"""What the plugin needs to know of Snakemake beyond the storage interface, in one place.

Storage objects are told neither whether Snakemake still plans, nor why they
are to be removed.  Both can be seen from the workflow, which every file of a
rule knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from snakemake.io.flags.access_patterns import STORE_KEY as ACCESS_PATTERN
from snakemake.io.flags.access_patterns import AccessPattern
from snakemake_interface_executor_plugins.settings import ExecMode

from s3fuse.errors import SettingsError
from s3fuse.node.processes import claim_ownership

T = TypeVar("T")

#: A query for which Snakemake makes an object without asking any store.
PROBE = "s3://bucket/key"
#: The flag of outputs that must not be replaced.
PROTECTED = "protected"
#: Paths for which the rules that write them are remembered.
MOST_REMEMBERED = 100_000


def provider_of(storage: Any) -> Any:
    """Return the provider behind ``storage.TAG`` of a Snakefile."""
    return storage(PROBE).flags["storage_object"].provider


def _stored(job: Any) -> list[Any]:
    """Return the outputs of a job that Snakemake stores when it has succeeded."""
    files = [*job.output, *([job.benchmark] if job.benchmark else [])]
    return [
        file
        for file in files
        if file.is_storage
        and not file.should_not_be_retrieved_from_storage
        and not {"pipe", "service", "nodelocal"} & file.flags.keys()
    ]


def _written_by(rule: Any) -> list[Any]:
    """Return the patterns of what a rule writes: its outputs and its benchmark."""
    benchmark = getattr(rule, "benchmark", None)
    return [*rule.output, *([benchmark] if benchmark else [])]


class WorkflowState:
    """The running workflow, as far as it is known yet."""

    def __init__(self) -> None:
        self.workflow: Any = None
        self._jobs_by_output: dict[str, Any] = {}
        # The latest attempt of the job that writes a path.
        self._attempts: dict[str, int] = {}
        self._patterns_by_input: dict[str, set[AccessPattern | None]] = {}
        # The rules stay the same once the Snakefile is parsed.
        self._matching = lru_cache(MOST_REMEMBERED)(self._find_outputs)

    def learn(self, file: Any) -> None:
        """Take note of a file of a rule, which Snakemake ties to each object of a rule."""
        if PROTECTED in getattr(file, "flags", ()) and file.is_storage:
            raise SettingsError(
                f"{file.storage_object.query} is protected(), which nobody can do for an object; "
                "use versions or locks of the bucket instead."
            )
        rule = getattr(file, "rule", None)
        if rule is None or self.workflow is rule.workflow:
            return
        self.workflow = rule.workflow
        # What the jobs of a run mount is the run's, and outlives them.
        if self.workflow.exec_mode is not ExecMode.SUBPROCESS:
            claim_ownership()

    @property
    def is_parsing(self) -> bool:
        """Whether Snakemake still reads the Snakefile, so rules may follow.

        There is no graph of jobs yet, and `dag_settings` are not set.
        """
        return self.workflow is not None and self.workflow.dag is None

    @property
    def is_planning(self) -> bool:
        """Whether the graph of jobs is still being built.

        Snakemake remembers what it has asked until then, and drops and stops
        its cache before the first job runs.  A dry run never stops planning.
        """
        cache = getattr(self.workflow, "iocache", None)
        return bool(cache is not None and cache.active)

    @property
    def runs_here(self) -> bool:
        """Whether all jobs of the workflow run on this node, under this process."""
        workflow = self.workflow
        return bool(
            workflow is not None
            and workflow.exec_mode is ExecMode.DEFAULT
            and not workflow.non_local_exec
        )

    @property
    def sends_jobs(self) -> bool:
        """Whether this process plans the workflow, and jobs of it run on other nodes."""
        workflow = self.workflow
        return bool(
            workflow is not None
            and workflow.exec_mode is ExecMode.DEFAULT
            and workflow.non_local_exec
        )

    @property
    def is_remote(self) -> bool:
        """Whether this process is for a job that was sent to this node."""
        return bool(self.workflow is not None and self.workflow.remote_exec)

    @property
    def leaves_jobs_to_a_step(self) -> bool:
        """Whether another process of this batch job runs and publishes what this one is for.

        So does the plugin for Slurm, in a step of the job.
        """
        return self.is_remote and bool(self.workflow.non_local_exec)

    def inputs_to_come(self) -> Iterator[Any]:
        """The inputs of the jobs that are still to be done, but what other jobs write."""
        if self.workflow is not None and not self.is_parsing:
            for job in self.workflow.dag.needrun_jobs():
                for file in job.input:
                    if file.is_storage and not self.is_output(Path(file)):
                        yield file

    def is_sequential(self, path: Path) -> bool:
        """Whether all jobs say that they read a file from end to end (``access.sequential()``)."""
        patterns = self._look_up(self._patterns_by_input, path) or set()
        return bool(patterns) and patterns <= {AccessPattern.SEQUENTIAL, AccessPattern.MULTI}

    def is_lasting_output(self, path: Path) -> bool:
        """Whether a rule writes this path, and not as ``temp()``."""
        matching = self._outputs_like(path)
        return bool(matching) and not any("temp" in output.flags for output in matching)

    def are_siblings(self, paths: Iterable[Path]) -> bool:
        """Tell whether one rule writes all of some paths, or no rule of this workflow any.

        Rules may have been divided since the outputs were written.
        """
        rules = [{output.rule for output in self._outputs_like(path)} for path in paths]
        return not any(rules) or bool(set.intersection(*rules))

    def is_output(self, path: Path) -> bool:
        """Whether a rule writes this path, here or in another process of this run."""
        return bool(self._outputs_like(path))

    def may_change(self, path: Path) -> bool:
        """Whether a job of this process writes this path.

        What a job on another node reads was there when it was submitted.  While the
        Snakefile is parsed, a rule that follows may write any path.
        """
        return self.is_parsing or bool(self._outputs_like(path, of_this_process=True))

    def writes_below(self, directory: str) -> bool:
        """Whether a rule may write a path below a directory, which ends with a slash."""
        if self.workflow is None:
            return False
        patterns = (str(each) for rule in self.workflow.rules for each in _written_by(rule))
        starts = (pattern.partition("{")[0] for pattern in patterns)
        return any(
            each.startswith(directory) or directory.startswith(each) for each in starts if each
        )

    def is_tried_again(self, path: Path) -> bool:
        """Tell once whether the job that writes this path starts another attempt.

        Snakemake asks for each output before the job runs.  It removes what a failed
        attempt has left, and of outputs in a storage only the object.
        """
        if self.is_planning or not self.is_output(path):
            return False
        job = self._look_up(self._jobs_by_output, path)
        if job is None:
            return False
        # A process for a single job begins with its attempt, and with nothing on disk.
        first = 1 if self.workflow.exec_mode is ExecMode.DEFAULT else job.attempt
        seen = self._attempts.get(str(path), first)
        self._attempts[str(path)] = job.attempt
        return bool(job.attempt > seen)

    def is_checkpoint_output(self, path: Path) -> bool:
        """Whether a checkpoint writes this path."""
        return any(output.rule.is_checkpoint for output in self._outputs_like(path))

    def is_file_output(self, path: Path) -> bool:
        """Whether a rule writes this path, and not as ``directory()``."""
        matching = self._outputs_like(path)
        return bool(matching) and not any("directory" in output.flags for output in matching)

    def stored_with(self, path: Path) -> list[Any]:
        """Return the outputs that Snakemake stores with this one: those of the same job.

        Logs are stored on their own, also when the job has failed.
        """
        job = self._look_up(self._jobs_by_output, path)
        if job is None or path not in map(Path, files := _stored(job)):
            return []
        if self.is_remote:
            unneeded = self.workflow.storage_settings.unneeded_temp_files
            return [f for f in files if f not in unneeded and os.path.lexists(f)]
        return files

    def inputs_beside(self, path: Path) -> set[Any]:
        """The inputs of the job that writes this path."""
        job = self._look_up(self._jobs_by_output, path)
        return set(job.input) if job is not None else set()

    def _look_up(self, found: dict[str, T], path: Path) -> T | None:
        # Jobs come and go with checkpoints, so look again for what is new.
        if str(path) not in found and self.workflow is not None and not self.is_parsing:
            for job in self.workflow.dag.jobs:
                # A log is published on its own.
                self._jobs_by_output.update(dict.fromkeys(map(str, job.log)))
                for output in _stored(job):
                    self._jobs_by_output[str(output)] = job
                for file in job.input:
                    patterns = self._patterns_by_input.setdefault(str(file), set())
                    patterns.add(file.flags.get(ACCESS_PATTERN))
        return found.get(str(path))

    def _outputs_like(self, path: Path, *, of_this_process: bool = False) -> list[Any]:
        if self.workflow is None:
            return []
        find = self._find_outputs if self.is_parsing else self._matching
        return find(str(path), of_this_process)

    def _find_outputs(self, path: str, of_this_process: bool) -> list[Any]:
        allowed = self.workflow.dag_settings.allowed_rules if of_this_process else None
        return [
            output
            for rule in self.workflow.rules
            if not allowed or rule.name in allowed
            for output in _written_by(rule)
            if output.is_storage and output.match(path)
        ]
