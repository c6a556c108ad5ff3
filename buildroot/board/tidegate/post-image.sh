#!/bin/sh
# Buildroot's post-image script: post-image.sh IMAGES MACHINE. Collects the boot partition and the drop zone (boot.sh), and makes of them and of
# rootfs.erofs the card image and the update bundle. $TIDEGATE_KEYS names the folder with the keys of updates (rauc/mkbundle.sh).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
images=${1:?the folder of images}
machine=${2:?the machine: rpi64, rpi5 or qemu}

"$here/boot.sh" "$images" "$machine"
boot=$images/boot
drop=$images/drop

# RAUC finds blocks again that are where blocks of 4 KiB are; mkfs.erofs makes them as large as pages of the machine that builds.
if [ "$(od -An -tu1 -j1036 -N1 "$images/rootfs.erofs" | tr -d ' ')" != 12 ]; then
    echo "post-image.sh: rootfs.erofs is no EROFS with blocks of 4 KiB; build on a machine with pages of 4 KiB" >&2
    exit 1
fi

card=$images/tidegate-$machine.img
"$here/mkimage.sh" --boot "$boot" --drop "$drop" --root "$images/rootfs.erofs" --out "$card"
"$here/rauc/mkbundle.sh" --machine "$machine" --boot "$boot" --root "$images/rootfs.erofs" --out "$images/tidegate-$machine.raucb"
# What the system tests of the QEMU machine look for.
[ "$machine" != qemu ] || ln -sf "${card##*/}" "$images/card.img"
# Card writers unpack it themselves.
xz --force --keep --threads=0 "$card"
