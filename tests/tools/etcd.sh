#!/bin/sh
# Puts etcd and etcdctl of one version into a folder: as links if the PATH has that very version, else made from the
# Go module pinned in tests/etcd/, or, for 3.4, from Debian's packages. Installs nothing outside of that folder.
# usage: etcd.sh VERSION FOLDER
set -eu
version=$1 folder=$2
here=$(cd "$(dirname "$0")/.." && pwd)

has_version() { # PROGRAM ARGUMENT: does it exist, and say that it is of this version?
    command -v "$1" >/dev/null && ETCDCTL_API=3 "$1" "$2" 2>/dev/null | grep -qi "^$(basename "$1") version: $version\$"
}

link() {
    ln -sf "$(command -v etcd)" "$new/etcd"
    ln -sf "$(command -v etcdctl)" "$new/etcdctl"
}

build() {
    echo "etcd $version: building it from its Go module (a minute or two)"
    cd "$here/etcd/${version%.*}"
    go build -buildvcs=false -ldflags='-s -w' -o "$new/etcd" go.etcd.io/etcd/server/v3
    go build -buildvcs=false -ldflags='-s -w' -o "$new/etcdctl" go.etcd.io/etcd/etcdctl/v3
}

# Unpacked rather than installed: the package would start a service on port 2379.
unpack() {
    echo "etcd $version: unpacking Debian's packages etcd-server and etcd-client"
    cd "$new"
    if ! apt-get download -q "etcd-server=$version*" "etcd-client=$version*"; then
        "$here/tools/root.sh" apt-get update
        apt-get download -q "etcd-server=$version*" "etcd-client=$version*"
    fi
    for package in *.deb; do dpkg-deb --extract "$package" .; done
    mv usr/bin/etcd usr/bin/etcdctl .
    rm -r usr etc lib var ./*.deb 2>/dev/null || true
}

mkdir -p "$(dirname "$folder")"
new=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
if has_version etcd --version && has_version etcdctl version; then
    link
else
    case $version in
    3.4.*) (unpack) ;;
    *) (build) ;;
    esac
fi
has_version "$new/etcd" --version && has_version "$new/etcdctl" version || {
    echo "etcd.sh: what was made is not etcd $version" >&2
    exit 1
}
rm -rf "$folder"
mv "$new" "$folder"
