"""The S3 server between a mount and its store, which shows what a run planned with.

::

    job ── kernel ── s3fs-fuse ── gateway ── store
                                     │
                                   cache

`keeper` is a process for each mount: it opens the port, and starts and watches the two
others.  `server` answers the requests of s3fs: `signature` says whether they are ours,
`catalogue` what is there, `cache` holds what has come, `upstream` brings what is missing,
and `metadata` what every reader will ask for first.  `client` is how a run tells the
gateway what it planned with.
"""
