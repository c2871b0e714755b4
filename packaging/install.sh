#!/bin/sh
# Installs the libraries, headers, pkg-config files and the CMake package below DESTDIR/PREFIX, or removes them again.
# Nothing that is installed names the prefix, so that it may be moved.
# usage: install.sh install|uninstall DESTDIR PREFIX LIB LIBRARIES
#   LIB        where libraries go, below PREFIX: lib, lib64, lib/x86_64-linux-gnu
#   LIBRARIES  the folder in which libtenure.so and libtenure.a were built
set -eu
action=$1 destdir=$2 prefix=$3 lib=$4 libraries=$5
root=$(dirname "$0")/..
packaging=$root/packaging
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
soname=libtenure.so.$(sed -n 's/^#define TENURE_ABI_VERSION //p' "$root/include/tenure.h")
shared=libtenure.so.$version
# Not -lgcc_s, which Rust names too: every compiler driver adds its own unwinder, the static one with -static.
system_libraries="pthread m dl rt util"

case $prefix in
/*) ;;
*)
    echo "install.sh: PREFIX is \`$prefix\`: it must begin with /" >&2
    exit 1
    ;;
esac
case /$lib/ in
*/../* | */./* | *//*)
    echo "install.sh: LIB is \`$lib\`: it must be a plain path below PREFIX, such as lib or lib64" >&2
    exit 1
    ;;
esac
top=$destdir$prefix

headers=$(ls "$root/include")
files="$lib/$shared $lib/$soname $lib/libtenure.so $lib/libtenure.a $lib/pkgconfig/tenure.pc
    $lib/pkgconfig/tenure-static.pc $lib/cmake/Tenure/TenureConfig.cmake $lib/cmake/Tenure/TenureConfigVersion.cmake
    share/doc/tenure/LICENSE share/doc/tenure/THIRD-PARTY.txt $(for header in $headers; do echo "include/$header"; done)"

fill() { # TEMPLATE FILE: with how to get from the file's folder to the prefix
    up=$(echo "$(dirname "$2")" | sed 's|[^/][^/]*|..|g')
    private=$(for name in $system_libraries; do printf -- ' -l%s' "$name"; done)
    sed -e "s|@UP@|$up|" -e "s|@LIB@|$lib|g" -e "s|@VERSION@|$version|" -e "s|@SHARED@|$shared|g" \
        -e "s|@SONAME@|$soname|" -e "s|@PRIVATE@|${private# }|" \
        -e "s|@PRIVATE_LIST@|$(echo "$system_libraries" | tr ' ' ';')|" "$packaging/$1" >"$top/$2"
    chmod 644 "$top/$2"
}

case $action in
install)
    for file in $files; do mkdir -p "$top/$(dirname "$file")"; done
    install -m 644 "$libraries/libtenure.so" "$top/$lib/$shared"
    install -m 644 "$libraries/libtenure.a" "$top/$lib/libtenure.a"
    strip --strip-debug "$top/$lib/libtenure.a" # half of it
    ln -sf "$shared" "$top/$lib/$soname"
    ln -sf "$soname" "$top/$lib/libtenure.so"
    for header in $headers; do install -m 644 "$root/include/$header" "$top/include/$header"; done
    for text in LICENSE THIRD-PARTY.txt; do install -m 644 "$root/$text" "$top/share/doc/tenure/$text"; done
    for pc in tenure.pc tenure-static.pc; do fill $pc "$lib/pkgconfig/$pc"; done
    for cmake in TenureConfig.cmake TenureConfigVersion.cmake; do fill $cmake "$lib/cmake/Tenure/$cmake"; done
    echo "installed Tenure $version in $top"
    if [ -z "$destdir" ] && [ "$(id -u)" = 0 ]; then
        # Where the loader looks by itself, its cache has to know.
        ldconfig || echo "install.sh: run ldconfig, or set LD_LIBRARY_PATH=$top/$lib" >&2
    fi
    ;;
uninstall)
    for file in $files; do rm -f "$top/$file"; done
    for folder in "$lib/cmake/Tenure" share/doc/tenure; do
        [ ! -d "$top/$folder" ] || rmdir --ignore-fail-on-non-empty "$top/$folder"
    done
    echo "removed Tenure $version from $top"
    ;;
*)
    echo "usage: install.sh install|uninstall DESTDIR PREFIX LIB LIBRARIES" >&2
    exit 1
    ;;
esac
