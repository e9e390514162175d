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
            constraint=lambda wildcards: DATASETS[wildcards.dataset]["constraint"],
            units=lambda wildcards: DATASETS[wildcards.dataset].get("units"),
            baseline=lambda wildcards: DATASETS[wildcards.dataset]["baseline"],
            options=lambda wildcards, product=product: products_of(wildcards.dataset)[
                product
            ]
            or {},
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
        constraint=lambda wildcards: ENSEMBLES[wildcards.dataset]["constraint"],
        units=lambda wildcards: ENSEMBLES[wildcards.dataset].get("units"),
    script:
        "../scripts/ensemble.py"
