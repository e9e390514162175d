# Jobs whose outputs are published together: files in several folders, and a folder.
# What is written tells which run has written it.
RESULTS, FILES, CONTENT = config["results"], config["files"], config["content"]


storage s3:
    provider="s3fuse",


rule all:
    input:
        [storage.s3(f"{RESULTS}/{name}") for name in FILES],
        storage.s3(f"{RESULTS}/parts/"),


rule files:
    output:
        [storage.s3(f"{RESULTS}/{name}") for name in FILES],
    shell:
        "for file in {output}; do printf {CONTENT} > $file; done"


rule parts:
    output:
        storage.s3(f"{RESULTS}/parts/"),
    shell:
        "mkdir -p {output};"
        " for name in 1 2 3 4 5 6 only-{CONTENT}; do printf {CONTENT} > {output}/$name; done"
