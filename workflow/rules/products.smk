# What a dataset asks for under `products`, and ensembles.

for product in PRODUCTS:

    rule:
        name:
            product
        input:
            files=files_of,
            buckets=buckets_of,
        output:
            result(f"{product}/{{dataset}}.nc"),
        log:
            local(f"logs/{product}/{{dataset}}.log"),
        benchmark:
            local(f"benchmarks/{product}/{{dataset}}.tsv")
        conda:
            "../envs/iris.yaml"
        params:
            names=names_of,
            provenance=provenance_of,
            constraint=constraint_of,
            units=units_of,
            baseline=lambda wildcards: DATASETS[wildcards.dataset]["baseline"],
            product=product,
            options=lambda wildcards, product=product: escaped(
                products_of(wildcards.dataset)[product] or {}
            ),
        script:
            "../scripts/product.py"


# Steps of the user's own: a result for each, named like a product.
for step in sorted({step for name in DATASETS for step in steps_of(name)}):

    rule:
        name:
            f"step_{step}"
        input:
            files=files_of,
            buckets=buckets_of,
        output:
            result(f"{step}/{{dataset}}.nc"),
        log:
            local(f"logs/{step}/{{dataset}}.log"),
        benchmark:
            local(f"benchmarks/{step}/{{dataset}}.tsv")
        conda:
            "../envs/iris.yaml"
        params:
            names=names_of,
            provenance=provenance_of,
            constraint=constraint_of,
            units=units_of,
            options=lambda wildcards, step=step: escaped(
                steps_of(wildcards.dataset)[step]
            ),
            source=lambda wildcards, step=step: sources_of_steps(wildcards.dataset)[
                step
            ],
        script:
            "../scripts/own_step.py"


rule ensemble:
    input:
        files=files_of,
        buckets=buckets_of,
    output:
        result("ensemble/{dataset}.nc"),
    log:
        local("logs/ensemble/{dataset}.log"),
    benchmark:
        local("benchmarks/ensemble/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
        constraint=constraint_of,
        units=units_of,
    script:
        "../scripts/ensemble.py"
