"""s3fs-fuse mounts: started, found, shared, kept alive and unmounted."""
