# A larger workflow, of which this one is a part.
configfile: "config.yaml"


module climate:
    snakefile:
        config["project"] + "/workflow/Snakefile"
    config:
        config["climate"]


use rule * from climate as climate_*


rule answer:
    default_target: True
    input:
        "results/series/mine.nc",
        "results/record.html",
    output:
        "answer.txt",
    shell:
        "ncdump -h {input[0]} > {output} || ls {input} > {output}"
