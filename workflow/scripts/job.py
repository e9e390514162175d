"""What all scripts share: their log, and one sentence for what the user can mend."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steps import DataError


@contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Send what goes wrong to the log of the rule, and say it on standard error."""
    with open(snakemake.log[0], "w", buffering=1) as log:
        try:
            yield
        except DataError as error:
            print(error, file=log)
            sys.exit(f"{snakemake.rule}: {error}")
        except Exception:
            traceback.print_exc(file=log)
            raise
        print("done", file=log)
