# The shared setup rule: it mounts a bucket before the first job that needs it.
#
# A bucket is itself a storage object, which exists as long as it answers, so no
# job runs because of it.  Its local path, a link to the mount point, is the
# output of this rule: missing unless the bucket is mounted, and so the rule runs
# just when some job that needs the bucket does.
#
# Where jobs run on other nodes, each mounts on its node what it reads, and there is
# nothing to set up here.

if JOBS_RUN_HERE:

    rule mount:
        output:
            local(directory(str(BUCKET))),
        log:
            "logs/mount/{bucket}.log",
        wildcard_constraints:
            bucket="[^/]+",
        run:
            mount_bucket(wildcards.bucket)

    # A rule whose recorded code has changed runs again, and hides from Snakemake that
    # what depends on it is missing. A mount is no result, so its code is not recorded.
    rules.mount.rule.run_func_src = None
