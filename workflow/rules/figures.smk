# Figures, with captions for `snakemake --report`.


rule series_figure:
    input:
        results("series/{dataset}.nc", dataset=DATASETS),
    output:
        report(
            result("figures/series.png"),
            caption="../report/series.rst",
            category="Series",
            labels={"figure": "Area-weighted annual means"},
        ),
    log:
        local("logs/series_figure.log"),
    conda:
        "../envs/iris.yaml"
    params:
        datasets=list(DATASETS.values()),
    script:
        "../scripts/series_figure.py"


rule map_figure:
    input:
        result("anomaly/{dataset}.nc"),
    output:
        report(
            result("figures/map_{dataset}.png"),
            caption="../report/map.rst",
            category="Maps",
            labels={"dataset": "{dataset}", "figure": "Anomaly"},
        ),
    log:
        local("logs/map_figure/{dataset}.log"),
    conda:
        "../envs/iris.yaml"
    params:
        title=lambda wildcards: DATASETS[wildcards.dataset]["title"],
    script:
        "../scripts/map_figure.py"
