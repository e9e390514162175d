"""Whether all models are there that have to be."""

import json
import sys
from pathlib import Path

smk = snakemake  # type: ignore[name-defined]  # noqa: F821
left_out = json.loads(Path(smk.input.left_out).read_text())
reasons = "".join(f"{name}: {reason}\n" for name, reason in left_out.items())
if len(left_out) > smk.params.allowed:
    sentence = (
        f"{len(left_out)} of {smk.params.number} models of {smk.wildcards.multi_model} are left "
        f"out, and {smk.params.allowed} may be (allow_missing):"
    )
    Path(smk.log[0]).write_text(f"{sentence}\n{reasons}")
    sys.exit(f"{sentence}\n{reasons}")
Path(smk.log[0]).write_text("done\n")
Path(smk.output[0]).write_text(reasons)
