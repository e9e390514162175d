"""Random sequences of what happens to outputs, against a model of the bucket."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3fuse.embedded_server import Server, serving
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse import StorageProvider, StorageProviderSettings
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

KEYS = st.sampled_from(["a", "b", "folder/c"])
CONTENTS = st.binary(max_size=50)


class Stage(WorkflowState):
    """Snakemake's part: whether it plans, and that all keys are lasting outputs of rules."""

    is_planning = False

    def is_lasting_output(self, path: Path) -> bool:
        return True


class Outputs(RuleBasedStateMachine):
    """What Snakemake does to outputs, in any order, with runs that crash in between."""

    server: Server

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.bucket = f"model-{uuid.uuid4().hex[:12]}"
        self.store = Store(self.server.connection)
        self.store.call("create_bucket", S3Url(self.bucket), "create")
        self.model: dict[str, bytes] = {}
        self.next_run()

    @rule()
    def next_run(self) -> None:
        """The run before ended, or was killed: nothing of it is remembered."""
        connection = self.server.connection
        self.provider = StorageProvider(
            local_prefix=self.folder / uuid.uuid4().hex,
            logger=logging.getLogger("test"),
            settings=StorageProviderSettings(
                endpoint_url=connection.endpoint_url,
                region=connection.region,
                access_key=connection.access_key,
                secret_key=connection.secret_key,
            ),
        )
        self.stage = self.provider.run.workflow = self.provider.run.versions._workflow = Stage()
        # Snakemake plans before it runs: it asks for every output.
        self.stage.is_planning = True
        self.before = {key: self.object(key).exists() for key in ("a", "b", "folder/c")}
        assert self.before == {key: key in self.model for key in self.before}
        self.stage.is_planning = False
        self.running: set[str] = set()

    def object(self, key: str):  # type: ignore[no-untyped-def]
        return self.provider.object(f"s3://{self.bucket}/{key}")

    @rule(key=KEYS)
    def start_job(self, key: str) -> None:
        """Snakemake removes what is there before a job that writes it."""
        if self.object(key).exists():
            self.object(key).remove()
        # A result that this run made where there was none goes for good.
        if key in self.running:
            self.model.pop(key, None)
            self.running.discard(key)
        assert not self.object(key).exists()

    @rule(key=KEYS, content=CONTENTS)
    def finish_job(self, key: str, content: bytes) -> None:
        path = self.object(key).local_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.object(key).store_object()
        if key not in self.model and not self.before[key]:
            self.running.add(key)
        self.model[key] = content
        assert self.object(key).exists()
        assert self.object(key).size() == len(content)

    @precondition(lambda self: not self.running)
    @rule(key=KEYS)
    def delete_all_output(self, key: str) -> None:
        """Deliberate removal, which happens while Snakemake plans."""
        self.next_run()
        self.stage.is_planning = True
        if self.object(key).exists():
            self.object(key).remove()
        self.model.pop(key, None)
        self.next_run()

    @invariant()
    def the_bucket_is_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        objects = self.store.list(S3Url(self.bucket), recursive=True).objects
        files = self.store.filesystem
        assert {key: files.cat_file(f"{self.bucket}/{key}") for key in objects} == self.model

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.timeout(280)
@pytest.mark.slow
def test_no_sequence_loses_an_output(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("model")) as server:
        Outputs.server = server
        profile = settings(
            max_examples=12,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        Outputs.TestCase.settings = profile
        Outputs.TestCase().runTest()
