# Datasets of archives, and what many of them have in common.
#
# A dataset of an archive is one job that makes all steps: they are many and small, and
# starting Python and Iris takes longer than a step. What cannot be made leaves a reason in
# its folder, so that the others have their figure; the rule `complete` fails at the end.


rule model:
    input:
        files=files_of,
        buckets=buckets_of,
    output:
        result("models/{dataset}/"),
    log:
        local("logs/model/{dataset}.log"),
    benchmark:
        local("benchmarks/model/{dataset}.tsv")
    wildcard_constraints:
        dataset="[^/]+",
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
        constraint=constraint_of,
        units=units_of,
        baseline=lambda wildcards: MODELS[wildcards.dataset]["baseline"],
        products=lambda wildcards: escaped(
            MODELS[wildcards.dataset].get("products", {})
        ),
        steps=lambda wildcards: escaped(steps_of(wildcards.dataset)),
        sources=lambda wildcards: sources_of_steps(wildcards.dataset),
    script:
        "../scripts/model.py"


rule multi_model:
    input:
        lambda wildcards: [result(f"models/{name}/") for name in models_of(wildcards)],
    output:
        map=result("multi_model/{multi_model}_map.nc"),
        series=result("multi_model/{multi_model}_series.nc"),
        left_out=result("multi_model/{multi_model}_left_out.json"),
    log:
        local("logs/multi_model/{multi_model}.log"),
    benchmark:
        local("benchmarks/multi_model/{multi_model}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
        models=lambda wildcards: escaped(models_of(wildcards)),
        incomplete=lambda wildcards: escaped(
            CONFIGURATION.incomplete[archive_of(wildcards)]
        ),
        baseline=lambda wildcards: config["archives"][archive_of(wildcards)]["baseline"],
        settings=lambda wildcards: escaped(MULTI_MODELS[wildcards.multi_model]),
    script:
        "../scripts/multi_model_statistics.py"


rule multi_model_figure:
    input:
        map=result("multi_model/{multi_model}_map.nc"),
        series=result("multi_model/{multi_model}_series.nc"),
    output:
        map_png=report(
            result("figures/multi_model_{multi_model}_map.png"),
            caption="../report/multi_model.rst",
            category="Figures",
            labels={"figure": "Map of many models", "dataset": "{multi_model}"},
        ),
        map_pdf=result("figures/multi_model_{multi_model}_map.pdf"),
        series_png=report(
            result("figures/multi_model_{multi_model}_series.png"),
            caption="../report/multi_model.rst",
            category="Figures",
            labels={"figure": "Series of many models", "dataset": "{multi_model}"},
        ),
        series_pdf=result("figures/multi_model_{multi_model}_series.pdf"),
    log:
        local("logs/multi_model_figure/{multi_model}.log"),
    benchmark:
        local("benchmarks/multi_model_figure/{multi_model}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        baseline=lambda wildcards: config["archives"][archive_of(wildcards)]["baseline"],
        settings=lambda wildcards: escaped(MULTI_MODELS[wildcards.multi_model]),
    script:
        "../scripts/multi_model_figure.py"


# After all else, as it fails where models are left out that may not be.
rule complete:
    input:
        left_out=result("multi_model/{multi_model}_left_out.json"),
        others=[result(path, retrieve=False) for path in TARGETS],
    output:
        result("multi_model/{multi_model}_complete.txt"),
    log:
        local("logs/complete/{multi_model}.log"),
    conda:
        "../envs/iris.yaml"
    params:
        number=lambda wildcards: len(models_of(wildcards))
        + len(CONFIGURATION.incomplete[archive_of(wildcards)]),
        allowed=lambda wildcards: MULTI_MODELS[wildcards.multi_model].get(
            "allow_missing", 0
        ),
    script:
        "../scripts/complete.py"
