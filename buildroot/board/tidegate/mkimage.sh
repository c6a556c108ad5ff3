#!/bin/sh
# Assembles a card image: the drop zone, boot A, root A, an empty slot B, and small config and data partitions.
#
#   mkimage.sh --boot DIR --root FILE --out IMAGE [--drop DIR] [--boot-b DIR --root-b FILE]
#
# Needs no root: partitions are made as files (mkfs.vfat, mtools, mkfs.ext4) and copied to their place. The image is sparse.
# Used by Buildroot as post-image step and by the QEMU test machine.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=image.env
. "$here/image.env"
# shellcheck source-path=SCRIPTDIR source=fat.sh
. "$here/fat.sh"

fail() {
    echo "mkimage.sh: $*" >&2
    exit 1
}

drop='' boot_a='' boot_b='' root_a='' root_b='' out=''
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || fail "$1 needs a value"
    case "$1" in
    --drop) drop=$2 ;;
    --boot) boot_a=$2 ;;
    --boot-b) boot_b=$2 ;;
    --root) root_a=$2 ;;
    --root-b) root_b=$2 ;;
    --out) out=$2 ;;
    *) fail "$1 is no option; read the first lines of this script" ;;
    esac
    shift 2
done
[ -d "$boot_a" ] || fail "--boot must name the folder with the content of the boot partition"
[ -f "$root_a" ] || fail "--root must name the image of the root file system"
[ -n "$out" ] || fail "--out must name the image to write"
need mkfs.vfat mcopy mkfs.ext4 sfdisk

work=$(mktemp -d "${out}.XXXXXX")
trap 'rm -rf "$work"' EXIT

ext4() { # FILE SIZE LABEL BLOCK
    truncate -s "${2}M" "$1"
    # No reserved blocks: nobody but our own services writes here.
    mkfs.ext4 -q -F -b "$4" -m 0 -L "$3" -E lazy_itable_init=0,lazy_journal_init=0 "$1"
}

fits() { # FILE SIZE WHAT
    bytes=$(stat -c %s "$1")
    [ "$bytes" -le $(($2 * 1048576)) ] ||
        fail "$3 has $((bytes / 1048576 + 1)) MiB, its partition $2 MiB; take packages out or raise TIDEGATE_ROOT_MIB"
}

place() { # FILE START_MIB
    dd if="$1" of="$out" bs=1M seek="$2" conv=notrunc,sparse status=none
}

# A logical partition needs a sector before it for its record; a whole alignment unit is kept for that.
align=4
at_drop=$TIDEGATE_GAP_MIB
at_boot_a=$((at_drop + TIDEGATE_DROP_MIB))
at_boot_b=$((at_boot_a + TIDEGATE_BOOT_MIB))
at_extended=$((at_boot_b + TIDEGATE_BOOT_MIB))
at_root_a=$((at_extended + align))
at_root_b=$((at_root_a + TIDEGATE_ROOT_MIB + align))
at_config=$((at_root_b + TIDEGATE_ROOT_MIB + align))
at_data=$((at_config + TIDEGATE_CONFIG_MIB + align))
end=$((at_data + TIDEGATE_DATA_MIB))

fits "$root_a" "$TIDEGATE_ROOT_MIB" "the root file system"
[ -z "$root_b" ] || fits "$root_b" "$TIDEGATE_ROOT_MIB" "the root file system B"

rm -f "$out"
truncate -s "${end}M" "$out"
sfdisk --quiet --no-reread --no-tell-kernel "$out" <<LAYOUT
label: dos
label-id: 0x$TIDEGATE_DISK_SIGNATURE
unit: sectors
1 : start=$((at_drop * 2048)), size=$((TIDEGATE_DROP_MIB * 2048)), type=c, bootable
2 : start=$((at_boot_a * 2048)), size=$((TIDEGATE_BOOT_MIB * 2048)), type=c
3 : start=$((at_boot_b * 2048)), size=$((TIDEGATE_BOOT_MIB * 2048)), type=c
4 : start=$((at_extended * 2048)), size=$(((end - at_extended) * 2048)), type=f
5 : start=$((at_root_a * 2048)), size=$((TIDEGATE_ROOT_MIB * 2048)), type=83
6 : start=$((at_root_b * 2048)), size=$((TIDEGATE_ROOT_MIB * 2048)), type=83
7 : start=$((at_config * 2048)), size=$((TIDEGATE_CONFIG_MIB * 2048)), type=83
8 : start=$((at_data * 2048)), size=$((TIDEGATE_DATA_MIB * 2048)), type=83
LAYOUT

fat "$work/drop" "$TIDEGATE_DROP_MIB" "$TIDEGATE_LABEL_DROP" "$drop"
# The text that provisioning puts there when it is missing; here with the line ends of Windows as well, for its older editors.
readme=$here/../../../gateway-daemon/src/provision/README.txt
sed 's/$/\r/' "$readme" >"$work/README.txt"
touch -r "$readme" "$work/README.txt"
mcopy -p -Q -i "$work/drop" "$work/README.txt" ::
place "$work/drop" "$at_drop"
fat "$work/boot-a" "$TIDEGATE_BOOT_MIB" "$TIDEGATE_LABEL_BOOT_A" "$boot_a"
place "$work/boot-a" "$at_boot_a"
fat "$work/boot-b" "$TIDEGATE_BOOT_MIB" "$TIDEGATE_LABEL_BOOT_B" "$boot_b"
place "$work/boot-b" "$at_boot_b"
place "$root_a" "$at_root_a"
[ -z "$root_b" ] || place "$root_b" "$at_root_b"
ext4 "$work/config" "$TIDEGATE_CONFIG_MIB" "$TIDEGATE_LABEL_CONFIG" "$TIDEGATE_BLOCK_CONFIG"
place "$work/config" "$at_config"
ext4 "$work/data" "$TIDEGATE_DATA_MIB" "$TIDEGATE_LABEL_DATA" "$TIDEGATE_BLOCK_DATA"
place "$work/data" "$at_data"
