# Figures and the record of the run, with captions for `snakemake --report`.


rule series_figure:
    input:
        results("series/{dataset}.nc", dataset=DATASETS),
    output:
        png=report(
            result("figures/series.png"),
            caption="../report/series.rst",
            category="Figures",
            labels={"figure": "Area-weighted annual means", "dataset": "all"},
        ),
        pdf=result("figures/series.pdf"),
    log:
        local("logs/series_figure.log"),
    benchmark:
        local("benchmarks/series_figure/all.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        datasets=escaped(list(DATASETS.values())),
        sources=lambda wildcards: {name: escaped(sources_of(name)) for name in DATASETS},
    script:
        "../scripts/series_figure.py"


rule map_figure:
    input:
        result("anomaly/{dataset}.nc"),
    output:
        png=report(
            result("figures/map_{dataset}.png"),
            caption="../report/map.rst",
            category="Figures",
            labels={"figure": "Anomaly", "dataset": "{dataset}"},
        ),
        pdf=result("figures/map_{dataset}.pdf"),
    log:
        local("logs/map_figure/{dataset}.log"),
    benchmark:
        local("benchmarks/map_figure/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        title=lambda wildcards: escaped(DATASETS[wildcards.dataset]["title"]),
        settings=lambda wildcards: DATASETS[wildcards.dataset].get("map", {}),
        sources=lambda wildcards: {
            wildcards.dataset: escaped(sources_of(wildcards.dataset))
        },
    script:
        "../scripts/map_figure.py"


rule regional_series_figure:
    input:
        result("regional_series/{dataset}.nc"),
    output:
        png=report(
            result("figures/regional_series_{dataset}.png"),
            caption="../report/regional_series.rst",
            category="Figures",
            labels={"figure": "Annual means of regions", "dataset": "{dataset}"},
        ),
        pdf=result("figures/regional_series_{dataset}.pdf"),
    log:
        local("logs/regional_series_figure/{dataset}.log"),
    benchmark:
        local("benchmarks/regional_series_figure/{dataset}.tsv")
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        title=lambda wildcards: escaped(DATASETS[wildcards.dataset]["title"]),
        baseline=lambda wildcards: DATASETS[wildcards.dataset]["baseline"],
        sources=lambda wildcards: {
            wildcards.dataset: escaped(sources_of(wildcards.dataset))
        },
    script:
        "../scripts/regional_series_figure.py"


for product in [*FIGURES_OF, "ensemble"]:

    rule:
        name:
            f"{product}_figure"
        input:
            result(f"{product}/{{dataset}}.nc"),
        output:
            png=report(
                result(f"figures/{product}_{{dataset}}.png"),
                caption="../report/product.rst",
                category="Figures",
                labels={
                    "figure": product.replace("_", " ").capitalize(),
                    "dataset": "{dataset}",
                },
            ),
            pdf=result(f"figures/{product}_{{dataset}}.pdf"),
        log:
            local(f"logs/{product}_figure/{{dataset}}.log"),
        benchmark:
            local(f"benchmarks/{product}_figure/{{dataset}}.tsv")
        wildcard_constraints:
            dataset="|".join(map(re.escape, [*DATASETS, *ENSEMBLES])),
        conda:
            "../envs/iris.yaml"
        params:
            names=names_of,
            product=product,
            title=lambda wildcards: escaped(described(wildcards.dataset)["title"]),
            settings=lambda wildcards: described(wildcards.dataset).get("map", {}),
            sources=lambda wildcards: {
                wildcards.dataset: escaped(sources_of(wildcards.dataset))
            },
        script:
            "../scripts/product_figure.py"


# Of what the jobs that lead to the figures have left beside their logs.
rule record:
    input:
        results("figures/series.png") if DATASETS else [],
        results("figures/map_{dataset}.png", dataset=DATASETS),
        left_out=results("multi_model/{name}_left_out.json", name=MULTI_MODELS),
    output:
        report(
            result("record.html"),
            caption="../report/record.rst",
            category="Record",
            labels={"figure": "What was read, by what and how long", "dataset": "all"},
        ),
    log:
        local("logs/record.log"),
    conda:
        "../envs/iris.yaml"
    params:
        names=names_of,
        titles={
            name: escaped(entry["title"])
            for name, entry in {**DATASETS, **MODELS}.items()
        },
        objects=lambda wildcards: {
            name: escaped(objects_of(name)) for name in [*DATASETS, *MODELS]
        },
    script:
        "../scripts/record.py"
