#!/bin/sh
# Makes a root file system as Buildroot's configurations do, where Buildroot is not: erofs.sh ROOT OUT [OPTION...]
#
# Options are those of mkfs.erofs. The bytes depend on nothing but what is in ROOT: a fixed name, one time for all files. That is $SOURCE_DATE_EPOCH, or when ROOT
# was built: the least that a clock shows which was never set.
set -eu

root=${1:?the folder with the root}
out=${2:?the file to write}
shift 2
command -v mkfs.erofs >/dev/null || {
    echo "mkfs.erofs is missing: apt-get install -y erofs-utils" >&2
    exit 1
}
epoch=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$root/usr/lib/clock-epoch" 2>/dev/null || echo 0)}
rm -f "$out"
mkfs.erofs --quiet -T "$epoch" -U 00000000-0000-0000-0000-000000000000 -zlz4hc,12 -C65536 "$@" "$out" "$root" >/dev/null
