#!/usr/bin/env bash
# Install s3fs-fuse from the distribution where it is missing and we may;
# otherwise say what to type. Without it everything works by copying.
set -eu

if command -v s3fs >/dev/null && { command -v fusermount || command -v fusermount3; } >/dev/null; then
    exit 0
fi

run=()
if [ "$(id -u)" -ne 0 ]; then
    run=(sudo -n)
fi
if command -v apt-get >/dev/null && "${run[@]}" true 2>/dev/null; then
    echo "Installing s3fs from the distribution ..."
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if "${run[@]}" apt-get update >"$log" 2>&1 && "${run[@]}" apt-get install -y --no-install-recommends s3fs fuse >>"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    # fuse3 stands in for fuse where the two exclude each other.
    if "${run[@]}" apt-get install -y --no-install-recommends s3fs >>"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
fi

cat >&2 <<'TEXT'
s3fs-fuse is missing, so buckets cannot be mounted and inputs will be copied.
To mount, install it:

    sudo apt install s3fs                       # Debian, Ubuntu
    conda install -c conda-forge s3fs-fuse      # without root

TEXT
