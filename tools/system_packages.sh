#!/usr/bin/env bash
# Install from the distribution what is missing, where we may; otherwise say what
# to type. Without arguments s3fs-fuse, without which everything works by copying;
# with "slurm", what the tests need for a cluster; with "ceph", a Ceph RADOS Gateway
# for them; with "browser", a browser; with "patchelf", what makes a newer s3fs find its
# libraries; with "tests", shells whose completion is tried, and a clock that is wrong on order.
set -eu

run=()
if [ "$(id -u)" -ne 0 ]; then
    run=(sudo -n)
fi

# Names of packages, one set after the other until one can be installed.
install() {
    command -v apt-get >/dev/null && "${run[@]}" true 2>/dev/null || return 1
    echo "Installing ${1} from the distribution ..."
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    "${run[@]}" apt-get update >"$log" 2>&1 || true
    for packages in "$@"; do
        # shellcheck disable=SC2086
        if "${run[@]}" apt-get install -y --no-install-recommends $packages >>"$log" 2>&1; then
            rm -f "$log"
            return 0
        fi
    done
    tail -n 5 "$log" >&2
    rm -f "$log"
    return 1
}

if [ "${1:-}" = slurm ]; then
    if [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/munged ]; then
        exit 0
    fi
    install "slurm-wlm munge" && exit 0
    echo "The tests with Slurm need its daemons: sudo apt install slurm-wlm munge" >&2
    exit 1
fi

if [ "${1:-}" = ceph ]; then
    missing=
    for program in radosgw radosgw-admin ceph-mon ceph-osd ceph-mgr ceph ceph-authtool monmaptool; do
        command -v "$program" >/dev/null || missing=$program
    done
    if [ -z "$missing" ]; then
        exit 0
    fi
    packages="radosgw ceph-mon ceph-osd ceph-mgr ceph-common"
    install "$packages" && exit 0
    echo "The tests with Ceph need its daemons: sudo apt install $packages" >&2
    exit 1
fi

if [ "${1:-}" = browser ]; then
    command -v chromium >/dev/null && exit 0
    install "chromium" && exit 0
    echo "The tests of the report need a browser: sudo apt install chromium" >&2
    exit 1
fi

if [ "${1:-}" = patchelf ]; then
    install "patchelf" && exit 0
    echo "The tests with a newer s3fs need: sudo apt install patchelf" >&2
    exit 1
fi

if [ "${1:-}" = tests ]; then
    command -v faketime >/dev/null && command -v zsh >/dev/null && command -v fish >/dev/null && exit 0
    install "faketime zsh fish" && exit 0
    # Those that need them are skipped.
    echo "Some tests need: sudo apt install faketime zsh fish" >&2
    exit 0
fi

if command -v s3fs >/dev/null && { command -v fusermount || command -v fusermount3; } >/dev/null; then
    exit 0
fi
# fuse3 stands in for fuse where the two exclude each other.
install "s3fs fuse" "s3fs" && exit 0

cat >&2 <<'TEXT'
s3fs-fuse is missing, so buckets cannot be mounted and inputs will be copied.
To mount, install it:

    sudo apt install s3fs                       # Debian, Ubuntu
    conda install -c conda-forge s3fs-fuse      # without root

TEXT
