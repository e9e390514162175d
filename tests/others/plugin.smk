storage s3:
    provider="s3fuse",


rule all:
    input:
        storage.s3("s3://my-results/lines/a.txt"),


rule count:
    input:
        storage.s3("s3://my-bucket/{name}.txt"),
    output:
        storage.s3("s3://my-results/lines/{name}.txt"),
    shell:
        "wc -l < {input} > {output}"
