#!/bin/sh
# Buildroot's post-image script: post-image.sh IMAGES MACHINE. Collects the boot partition and the drop zone (boot.sh), and makes of them and of
# rootfs.squashfs the card image and the update bundle. $TIDEGATE_KEYS names the folder with the keys of updates (rauc/mkbundle.sh).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
images=${1:?the folder of images}
machine=${2:?the machine: rpi64, rpi5 or qemu}

"$here/boot.sh" "$images" "$machine"
boot=$images/boot
drop=$images/drop
card=$images/tidegate-$machine.img
"$here/mkimage.sh" --boot "$boot" --drop "$drop" --root "$images/rootfs.squashfs" --out "$card"
"$here/rauc/mkbundle.sh" --machine "$machine" --boot "$boot" --root "$images/rootfs.squashfs" --out "$images/tidegate-$machine.raucb"
# What the system tests of the QEMU machine look for.
[ "$machine" != qemu ] || ln -sf "${card##*/}" "$images/card.img"
# Card writers unpack it themselves.
xz --force --keep --threads=0 "$card"
