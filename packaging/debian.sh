#!/bin/sh
# Makes the Debian packages libtenureN (the shared library) and libtenure-dev (what programs are built with) from what
# `make install DESTDIR=STAGE PREFIX=/usr LIB=lib/MULTIARCH` has put into STAGE.
# The variable DEB_COMPRESSION takes the place of xz.
# usage: debian.sh STAGE LIB OUTPUT
set -eu
stage=$1 lib=$2 output=$3
root=$(dirname "$0")/..
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
abi=$(sed -n 's/^#define TENURE_ABI_VERSION //p' "$root/include/tenure.h")
revision=$version-1
architecture=$(dpkg --print-architecture)
library=libtenure$abi

# PREFIX: the newest version of a library's symbols that ours needs.
needed() {
    newest=$(objdump -T "$stage/usr/$lib/libtenure.so.$abi" | sed -n "s/.*[( ]$1_\([0-9.]*\).*/\1/p" | sort -uV | tail -n 1)
    [ -n "$newest" ] || { echo "debian.sh: no symbol of $1 in libtenure.so.$abi" >&2; exit 1; }
    echo "$newest"
}
glibc=$(needed GLIBC) libgcc=$(needed GCC)

copyright="Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tenure

Files: *
Copyright: the Tenure authors
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
Comment:
 The libraries contain works of others, each under a licence of its own: they and
 the texts of these licences are in the file THIRD-PARTY.txt beside this one."

# NAME FIELDS: packs what lies in $output/NAME.
pack() {
    folder=$output/$1
    mkdir -p "$folder/usr/share/doc/$1" "$folder/DEBIAN"
    echo "$copyright" >"$folder/usr/share/doc/$1/copyright"
    install -m 644 "$root/THIRD-PARTY.txt" "$folder/usr/share/doc/$1/THIRD-PARTY.txt"
    gzip -9n <"$root/CHANGELOG.md" >"$folder/usr/share/doc/$1/changelog.gz"
    (cd "$folder" && find usr -type f -exec md5sum {} + | sort -k 2) >"$folder/DEBIAN/md5sums"
    cat >"$folder/DEBIAN/control" <<END
Package: $1
Source: tenure
Version: $revision
Architecture: $architecture
Multi-Arch: same
Maintainer: Tenure maintainers <tenure@localhost>
Installed-Size: $(du -sk --apparent-size "$folder/usr" | cut -f 1)
Priority: optional
$2
END
    chmod -R u=rwX,go=rX "$folder"
    dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$folder" "$output/$1_${revision}_$architecture.deb"
    rm -r "$folder"
}

mkdir -p "$output/$library/usr/$lib" "$output/$library/DEBIAN" "$output/libtenure-dev/usr/$lib"
cp -a "$stage/usr/include" "$output/libtenure-dev/usr/"
cp -a "$stage/usr/$lib/." "$output/libtenure-dev/usr/$lib/"
mv "$output/libtenure-dev/usr/$lib"/libtenure.so.* "$output/$library/usr/$lib/"

echo "libtenure $abi $library (>= $version)" >"$output/$library/DEBIAN/shlibs"
echo "activate-noawait ldconfig" >"$output/$library/DEBIAN/triggers"
pack "$library" "Section: libs
Depends: libc6 (>= $glibc), libgcc-s1 (>= $libgcc)
Description: leader election on etcd (shared library)
 Of several processes Tenure decides which one may act, tells it when it may
 no longer, and hands over in the time that the network takes."
pack libtenure-dev "Section: libdevel
Depends: $library (= $revision), libc6-dev
Description: leader election on etcd (development files)
 Headers for C and C++, the static library, and the files for pkg-config and
 CMake with which programs that use Tenure are built."
