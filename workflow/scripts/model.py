"""All that is made of one dataset of an archive, into one folder."""

import sys
from functools import partial
from pathlib import Path

from iris.exceptions import IrisError

import job
import loading
import models
import own_functions
from bad_data import DataError

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    folder = Path(smk.output[0])
    try:
        with job.naming_broken_inputs(smk):
            wanted = job.unescaped([smk.params.constraint, smk.params.units])
            cube = loading.load(smk.input.files, *wanted)
            options = job.unescaped(smk.params.products)
            models.make(cube, folder, smk.params.baseline, options, partial(job.save, smk))
            for name, given in job.unescaped(smk.params.steps).items():
                job.save(smk, own_functions.run(given, cube), folder / f"{name}.nc")
    except (DataError, IrisError, LookupError, TypeError, ValueError) as error:
        if models.is_of_system(error):
            raise
        reason = job.sentence(error, smk)
        print(f"{smk.wildcards.dataset} is left out: {reason}", file=sys.stderr)
        models.give_up(folder, reason)
