# One step, as a user of the plugin alone would write it.  What it does is
# given by the configuration, so that tests can let it fail.
storage s3:
    provider="s3fuse",


rule all:
    input:
        storage.s3(config["outputs"]),


rule step:
    input:
        storage.s3(config["input"]),
    output:
        storage.s3(config["outputs"]),
    params:
        command=config["command"],
    shell:
        "INPUT='{input}' OUTPUTS='{output}' && {params.command}"
