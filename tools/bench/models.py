"""Networks between a job and its store, and what a store charges."""

from __future__ import annotations

from collections.abc import Mapping

from fault_proxy import Counts, Faults

#: Name of a network, and what the proxy does to be like it.
NETWORKS: Mapping[str, Faults] = {
    "20 ms, 90 MB/s a connection": Faults(latency=0.020, connection_bandwidth=90e6),
    "5 ms, 1 GB/s in total": Faults(latency=0.005, total_bandwidth=1e9),
}

# US dollars, S3 Standard in us-east-1, https://aws.amazon.com/s3/pricing/
PER_READ = 0.0004 / 1000
PER_WRITE_OR_LIST = 0.005 / 1000


def dollars(counts: Counts) -> float:
    """What S3 charges for the requests of a job; bytes within a region are free."""
    reads = sum(number for kind, number in counts.requests.items() if kind in ("GET", "HEAD"))
    free = sum(number for kind, number in counts.requests.items() if kind.startswith("DELETE"))
    return reads * PER_READ + (counts.total - reads - free) * PER_WRITE_OR_LIST
