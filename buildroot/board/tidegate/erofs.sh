#!/bin/sh
# Makes a root file system as Buildroot's configurations do, where Buildroot is not: erofs.sh ROOT OUT [OPTION...]
#
# Options are those of mkfs.erofs. The bytes depend on nothing but what is in ROOT: a fixed name, one time for all files. $SOURCE_DATE_EPOCH is that time.
set -eu

root=${1:?the folder with the root}
out=${2:?the file to write}
shift 2
command -v mkfs.erofs >/dev/null || {
    echo "mkfs.erofs is missing: apt-get install -y erofs-utils" >&2
    exit 1
}
rm -f "$out"
mkfs.erofs --quiet -T "${SOURCE_DATE_EPOCH:-0}" -U 00000000-0000-0000-0000-000000000000 -zlz4hc,12 -C65536 "$@" "$out" "$root" >/dev/null
