"""Area-weighted mean of each year."""

import area_statistics
import hybrid
import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    annual = hybrid.drop_varying(steps.load_result(smk.input[0]), "latitude", "longitude")
    job.save(area_statistics.area_mean(annual), smk)
