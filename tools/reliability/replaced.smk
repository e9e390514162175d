# Two jobs that read the same input slowly, one after the other.
import sys

INPUT, RESULTS = config["input"], config["results"]


storage s3:
    provider="s3fuse",


rule all:
    input:
        [storage.s3(f"{RESULTS}/{number}.txt") for number in (1, 2)],


rule read:
    input:
        storage.s3(INPUT),
    output:
        storage.s3(f"{RESULTS}/{{number}}.txt"),
    shell:
        f"{sys.executable} {workflow.basedir}/read_slowly.py {{input}} {{output}}"
