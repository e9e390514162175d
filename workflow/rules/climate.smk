# From files of any format to annual means, climatology, anomaly and series.


rule annual_mean:
    input:
        files=files_of,
        buckets=buckets_of,
    output:
        result("annual_mean/{dataset}.nc"),
    log:
        local("logs/annual_mean/{dataset}.log"),
    benchmark:
        local("benchmarks/annual_mean/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
        constraint=constraint_of,
        units=units_of,
    script:
        "../scripts/annual_mean.py"


rule climatology:
    input:
        result("annual_mean/{dataset}.nc"),
    output:
        result("climatology/{dataset}.nc"),
    log:
        local("logs/climatology/{dataset}.log"),
    benchmark:
        local("benchmarks/climatology/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
        baseline=lambda wildcards: DATASETS[wildcards.dataset]["baseline"],
    script:
        "../scripts/climatology.py"


rule anomaly:
    input:
        annual=result("annual_mean/{dataset}.nc"),
        climatology=result("climatology/{dataset}.nc"),
    output:
        result("anomaly/{dataset}.nc"),
    log:
        local("logs/anomaly/{dataset}.log"),
    benchmark:
        local("benchmarks/anomaly/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
    script:
        "../scripts/anomaly.py"


rule series:
    input:
        result("annual_mean/{dataset}.nc"),
    output:
        result("series/{dataset}.nc"),
    log:
        local("logs/series/{dataset}.log"),
    benchmark:
        local("benchmarks/series/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        provenance=provenance_of,
    script:
        "../scripts/series.py"
