# The jobs of `bucket_model`. What they write lies in a directory that the
# configuration names, so that tests can draw it.
storage s3:
    provider="s3fuse",


rule all:
    input:
        storage.s3(f"s3://{config['bucket']}/one.txt"),
        storage.s3(f"s3://{config['bucket']}/two/x.txt"),
        storage.s3(f"s3://{config['bucket']}/deep/y.txt"),
        storage.s3(f"s3://{config['bucket']}/tas/"),
        storage.s3(f"s3://{config['bucket']}/mixed/x.txt"),
        storage.s3(f"s3://{config['bucket']}/mixed/pr/"),


rule file:
    output:
        storage.s3(f"s3://{config['bucket']}/one.txt"),
    params:
        made=config["made"],
    shell:
        "cp {params.made}/one.txt {output}"


rule two_files:
    output:
        x=storage.s3(f"s3://{config['bucket']}/two/x.txt"),
        y=storage.s3(f"s3://{config['bucket']}/deep/y.txt"),
    params:
        made=config["made"],
    shell:
        "cp {params.made}/two/x.txt {output.x}; cp {params.made}/deep/y.txt {output.y}"


rule folder:
    output:
        storage.s3(f"s3://{config['bucket']}/tas/"),
    params:
        made=config["made"],
    shell:
        "mkdir -p {output}; cp -r {params.made}/tas/. {output}"


rule file_and_folder:
    output:
        x=storage.s3(f"s3://{config['bucket']}/mixed/x.txt"),
        pr=storage.s3(f"s3://{config['bucket']}/mixed/pr/"),
    params:
        made=config["made"],
    shell:
        "cp {params.made}/mixed/x.txt {output.x}; "
        "mkdir -p {output.pr}; cp -r {params.made}/mixed/pr/. {output.pr}"
