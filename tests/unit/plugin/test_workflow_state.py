"""What is known of a workflow while Snakemake still reads the Snakefile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_executor_plugins.settings import ExecMode

from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

PATH = Path("bucket/out/1.txt")


class Output(SimpleNamespace):
    """An output of a rule."""

    is_storage = True

    def match(self, path: str) -> bool:
        return path == str(self.path)

    def __str__(self) -> str:
        return str(self.path)


def unfinished_workflow() -> SimpleNamespace:
    """Make a workflow as it is while its Snakefile is parsed."""
    return SimpleNamespace(
        dag=None,
        dag_settings=None,
        exec_mode=ExecMode.SUBPROCESS,
        non_local_exec=False,
        remote_exec=False,
        rules=[SimpleNamespace(name="step", output=[])],
    )


def finished(workflow: Any) -> None:
    """Let Snakemake finish parsing and build its graph of jobs."""
    workflow.dag = SimpleNamespace(jobs=[], needrun_jobs=list)
    workflow.dag_settings = SimpleNamespace(allowed_rules=set())


@pytest.fixture
def workflow() -> Any:
    return unfinished_workflow()


@pytest.fixture
def state(workflow: Any) -> WorkflowState:
    state = WorkflowState()
    state.learn(SimpleNamespace(rule=SimpleNamespace(workflow=workflow)))
    return state


QUESTIONS: dict[str, Callable[[WorkflowState], object]] = {
    "is_planning": lambda state: state.is_planning,
    "runs_here": lambda state: state.runs_here,
    "is_remote": lambda state: state.is_remote,
    "leaves_jobs_to_a_step": lambda state: state.leaves_jobs_to_a_step,
    "inputs_to_come": lambda state: list(state.inputs_to_come()),
    "is_output": lambda state: state.is_output(PATH),
    "is_lasting_output": lambda state: state.is_lasting_output(PATH),
    "is_file_output": lambda state: state.is_file_output(PATH),
    "inputs_beside": lambda state: state.inputs_beside(PATH),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_has_an_answer_while_the_snakefile_is_parsed(
    question: str, state: WorkflowState
) -> None:
    assert state.is_parsing
    assert not QUESTIONS[question](state)


def test_no_access_pattern_is_known_while_parsing(state: WorkflowState) -> None:
    assert not state.is_sequential(PATH)


def test_any_object_may_change_while_parsing(state: WorkflowState, workflow: Any) -> None:
    # A rule further down may write it.
    assert state.may_change(PATH)
    finished(workflow)
    assert not state.is_parsing
    assert not state.may_change(PATH)


def test_rules_that_are_defined_later_are_seen(state: WorkflowState, workflow: Any) -> None:
    assert not state.is_output(PATH)
    workflow.rules[0].output.append(Output(path=PATH, flags={}))
    assert state.is_output(PATH)
    finished(workflow)
    assert state.is_output(PATH)
    assert state.may_change(PATH)


@pytest.mark.parametrize(
    ("pattern", "directory", "writes"),
    [
        ("run/bucket/in/x.nc", "run/bucket/in/", True),
        ("run/bucket/in/deep/{name}.nc", "run/bucket/in/", True),
        ("run/bucket/{folder}/x.nc", "run/bucket/in/", True),
        ("run/bucket/i{rest}", "run/bucket/in/", True),
        ("run/bucket/inner/x.nc", "run/bucket/in/", False),
        ("run/bucket/out/{name}.nc", "run/bucket/in/", False),
        ("{name}.txt", "run/bucket/in/", False),
    ],
)
def test_rules_may_write_below_a_folder(
    workflow: Any, state: WorkflowState, pattern: str, directory: str, writes: bool
) -> None:
    workflow.rules = [SimpleNamespace(name="step", output=[Output(path=pattern)])]
    assert state.writes_below(directory) is writes
