"""From the errors of the library to those that Snakemake prints."""

from __future__ import annotations

from snakemake_interface_common.exceptions import WorkflowError

from s3fuse.errors import S3FuseError


class StorageError(WorkflowError):
    """One sentence for the person at the keyboard.

    Snakemake prints the stack below a `WorkflowError`; the user can mend what
    these say, and our stack does not help with that.  The cause keeps its
    traceback, which ``snakemake --verbose`` shows.
    """

    # What raises an exception cannot be kept from noting the stack in it, so
    # the name is hidden behind one that forgets.
    __traceback__ = property(lambda self: None, lambda self, stack: None)


class _WorkflowErrors:
    """A context manager that is written out, as Snakemake's questions enter it by the million."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        if isinstance(error, S3FuseError):
            raise StorageError(str(error)) from error


def as_workflow_errors() -> _WorkflowErrors:
    """Let errors of the library leave as a `StorageError`."""
    return _WorkflowErrors()
