#!/bin/sh
# Opens Buildroot's image of the QEMU board to the system tests: open.sh IMAGES OUT
#
# IMAGES is Buildroot's folder, OUT a folder to make. What mkroot.sh does with Debian's packages: tests/qemu/overlay goes on the root, card
# and update are made of it by the same scripts. Nothing else of the root is changed. Needs root for the owners of files.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
board=$here/../../buildroot/board/tidegate
images=${1:?the folder with the images of Buildroot}
out=${2:?the folder to make}

work=$out.new
rm -rf "$out" "$work"
mkdir -p "$work"
fsck.erofs --extract="$work/root" "$images/rootfs.erofs" >/dev/null
cp -a "$here/overlay/." "$work/root/"
cp -R "$images/boot" "$images/drop" "$work/"
"$board/erofs.sh" "$work/root" "$work/rootfs.erofs"
"$board/mkimage.sh" --boot "$work/boot" --root "$work/rootfs.erofs" --drop "$work/drop" --out "$work/card.img"
"$board/rauc/mkbundle.sh" --machine qemu --boot "$work/boot" --root "$work/rootfs.erofs" --out "$work/update.raucb"
mv "$work" "$out"
