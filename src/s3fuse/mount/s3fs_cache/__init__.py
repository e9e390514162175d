"""The private cache of s3fs-fuse, as far as we read and write it; the gateway replaces this."""
