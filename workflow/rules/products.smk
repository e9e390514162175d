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
        conda:
            "../envs/iris.yaml"
        params:
            constraint=lambda wildcards: DATASETS[wildcards.dataset]["constraint"],
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
    conda:
        "../envs/iris.yaml"
    params:
        constraint=lambda wildcards: ENSEMBLES[wildcards.dataset]["constraint"],
    script:
        "../scripts/ensemble.py"
