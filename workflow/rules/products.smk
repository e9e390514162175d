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
