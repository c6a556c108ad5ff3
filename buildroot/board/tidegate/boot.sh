#!/bin/sh
# Collects what goes into a boot partition and into the drop zone: boot.sh IMAGES MACHINE. Of what a builder left in IMAGES (kernel, device trees, the
# firmware of a Raspberry Pi in rpi-firmware/) it makes IMAGES/boot and IMAGES/drop. $TIDEGATE_EEPROM names a folder with the files of a boot loader to lay
# beside (docs/image.md). Used by Buildroot's post-image step and by the QEMU test machine.
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
    # config.txt includes it. What becomes of an include without a file is not documented.
    : >"$boot/usercfg.txt"
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
    echo "boot.sh: the machine is rpi64, rpi5 or qemu, not '$machine'" >&2
    exit 1
    ;;
esac
