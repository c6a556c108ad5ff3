#!/bin/sh
# Buildroot's post-image script: post-image.sh IMAGES MACHINE. Collects the boot partition and the drop zone, and makes of them and of
# rootfs.erofs the card image and the update bundle. $TIDEGATE_KEYS names the folder with the keys of updates (rauc/mkbundle.sh),
# $TIDEGATE_EEPROM one with the files of a boot loader to lay beside (docs/image.md).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
images=${1:?the folder of images}
machine=${2:?the machine: rpi64, rpi5 or qemu}
# shellcheck source-path=SCRIPTDIR source=image.env
. "$here/image.env"

boot=$images/boot
drop=$images/drop
rm -rf "$boot" "$drop"
mkdir -p "$boot" "$drop"

# The kernel's command line of a slot. Messages go to the screen; on Raspberry Pi 5 to its debug connector, too.
cmdline() { # SLOT PARTUUID CONSOLE
    sed -e "s|@SLOT@|$1|" -e "s|@ROOT@|$2|" -e "s|@CONSOLE@|$3|" "$here/rpi/cmdline.txt"
}

raspberry_pi() { # KERNEL-NAME CONSOLE
    cp -r "$images/rpi-firmware/." "$boot/"
    # The boot ROM of Raspberry Pi 3 and Zero 2 W takes it from the first partition, and only from there: it is outside of the updates.
    if [ -f "$boot/bootcode.bin" ]; then
        mv "$boot/bootcode.bin" "$drop/"
        cp "$here/rpi/firstpart-config.txt" "$drop/config.txt"
    fi
    cp "$images"/*.dtb "$boot/"
    # The firmware tells a packed kernel by its first bytes; packed, two of them fit into a partition.
    cp "$images/Image.gz" "$boot/$1"
    cmdline A "$TIDEGATE_PARTUUID_ROOT_A" "$2" >"$boot/cmdline-a.txt"
    cmdline B "$TIDEGATE_PARTUUID_ROOT_B" "$2" >"$boot/cmdline-b.txt"
    # What a boot loader takes that has no filter for partitions (Raspberry Pi 5 before 2025-03-10): slot A, which then says so.
    sed 's/$/ tidegate.firmware=old/' "$boot/cmdline-a.txt" >"$boot/cmdline.txt"
    # What is read on a trial where autoboot.txt is lost, and by firmware that forgets what it says (raspberrypi/rpi-eeprom 504).
    cp "$boot/config.txt" "$boot/tryboot.txt"
    cp "$here/rpi/autoboot.txt" "$drop/"
    # Not at the top, where the boot ROM would write them over any other, also a newer one with settings of its own.
    if [ -n "${TIDEGATE_EEPROM:-}" ]; then
        for file in recovery.bin pieeprom.upd pieeprom.sig LICENSE; do
            install -D -m 0644 "$TIDEGATE_EEPROM/$file" "$drop/eeprom/$file"
        done
    fi
}

case "$machine" in
rpi64) raspberry_pi kernel8.img tty1 ;;
rpi5) raspberry_pi kernel_2712.img ttyAMA10,115200 ;;
qemu)
    cp "$images/Image" "$boot/"
    cp "$here/uboot/uboot.args" "$boot/"
    "$here/uboot/mkbootscr.sh" "$drop/boot.scr"
    ;;
*)
    echo "post-image.sh: the machine is rpi64, rpi5 or qemu, not '$machine'" >&2
    exit 1
    ;;
esac

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
