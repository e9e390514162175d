# A sum for each month that has arrived, in buckets or in folders.
storage s3:
    provider="s3fuse",


def located(path):
    return storage.s3(path) if "://" in path else path


MONTHS = glob_wildcards(located(f"{config['inputs']}/{{month}}.bin")).month


rule all:
    input:
        [located(f"{config['results']}/{month}.txt") for month in sorted(MONTHS)],


rule month:
    input:
        located(f"{config['inputs']}/{{month}}.bin"),
    output:
        located(f"{config['results']}/{{month}}.txt"),
    params:
        command=config.get("command", "true"),
    shell:
        "{params.command} && sha256sum < {input} > {output}"
