# Sums of objects that are read through mounts, slowly where a file in the working directory says so.
storage s3:
    provider="s3fuse",


localrules:
    total,


rule all:
    input:
        storage.s3(f"{config['results']}/total.txt"),


rule sum:
    input:
        storage.s3(f"{config['inputs']}/{{name}}.bin"),
    output:
        storage.s3(f"{config['results']}/{{name}}.txt"),
    resources:
        runtime=lambda wildcards: config["minutes"] if wildcards.name == "two" else 60,
    shell:
        "(head -c 1000; sleep $(cat pause-{wildcards.name} || echo 0); cat)"
        " < {input} | sha256sum > {output}"


rule total:
    input:
        [storage.s3(f"{config['results']}/{name}.txt") for name in config["names"]],
    output:
        storage.s3(f"{config['results']}/total.txt"),
    shell:
        "cat {input} > {output}"
