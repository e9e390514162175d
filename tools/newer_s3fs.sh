#!/usr/bin/env bash
# Unpack the s3fs-fuse of another Debian, with the libraries that it needs, beside that of this
# machine: newer_s3fs.sh SUITE FOLDER, such as `trixie build/s3fs-trixie`. The command is
# FOLDER/bin/s3fs; nothing is installed.
set -eu
suite=$1
mkdir -p "$2"
folder=$(realpath "$2")
if [ -x "$folder/bin/s3fs" ]; then
    exit 0
fi

command -v patchelf >/dev/null || "$(dirname "$0")/system_packages.sh" patchelf

# An apt of its own, which thinks that nothing is installed.
mkdir -p "$folder"/apt/{state/lists,cache/archives}/partial "$folder"/{root,bin}
: >"$folder/apt/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$folder/apt/sources.list"
cat >"$folder/apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$folder/apt/state";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
CONF
export APT_CONFIG=$folder/apt/apt.conf
echo "Unpacking s3fs of Debian $suite ..."
apt-get -qq update
apt-get -qq -y --no-install-recommends --download-only install s3fs
for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg -x "$package" "$folder/root"
done
rm -r "$folder/apt"

# Its loader and libraries are the unpacked ones; DT_RPATH holds for those of libraries, too.
usr=$folder/root/usr
patchelf --force-rpath --set-rpath "$usr/lib/$(uname -m)-linux-gnu" \
    --set-interpreter "$(echo "$usr"/lib*/ld-linux-*.so.*)" \
    --output "$folder/bin/s3fs" "$usr/bin/s3fs"
"$folder/bin/s3fs" --version | head -n 1
