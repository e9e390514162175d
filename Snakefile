# The workflow lies where the Snakemake workflow catalogue looks for it.
include: "workflow/Snakefile"


# An included file does not set what is made by default.
workflow.default_target = "all"
