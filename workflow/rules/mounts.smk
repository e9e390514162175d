# The shared setup rule: it mounts a bucket before the first job that needs it.
#
# A bucket is itself a storage object, which exists as long as it answers, so no
# job runs because of it.  Its local path, a link to the mount point, is the
# output of this rule: missing unless the bucket is mounted, and so the rule runs
# just when some job that needs the bucket does.

BUCKET = storage.s3("s3://{bucket}")


rule mount:
    output:
        local(directory(str(BUCKET))),
    wildcard_constraints:
        bucket="[^/]+",
    log:
        "logs/mount/{bucket}.log",
    run:
        storage_object_of(BUCKET, wildcards).retrieve_object()


def storage_object_of(pattern, wildcards):
    """The storage object that a pattern of queries stands for in one job."""
    template = pattern.flags["storage_object"]
    return template.provider.object(template.query.format(**dict(wildcards.items())))


def unmount_buckets():
    """Unmount all that this run has mounted; wait for those who still read."""
    BUCKET.flags["storage_object"].provider.unmount()
