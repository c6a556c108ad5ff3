#!/bin/sh
# Makes the root file system, boot partition, card image and update bundles of the test machine:
#
#   mkroot.sh BASE DAEMON OUT [MACHINE]        BASE from mkbase.sh, DAEMON the program for arm64, OUT a folder to make; MACHINE is qemu, rpi64 or rpi5
#
# With the others it is the card of a Raspberry Pi in all but its kernel, its device tree and the programs of the firmware, of which only the names are there: the
# player of the firmware (tests/src/firmware) starts what lies on it.
#
# Everything that is Tidegate's comes from buildroot/board/tidegate and systemd/, as on the Pi; this script does what Debian's package
# scripts would have done, and adds tests/qemu/overlay: a root shell on a virtual console that only this image has.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
board=$project/buildroot/board/tidegate
base=${1:?the folder that mkbase.sh made}
daemon=${2:?the daemon for arm64}
out=${3:?the folder to make}
machine=${4:-qemu}
case "$machine" in qemu | rpi64 | rpi5) ;; *)
    echo "mkroot.sh: the machine is qemu, rpi64 or rpi5, not '$machine'" >&2
    exit 1
    ;;
esac

work=$out.new
rm -rf "$out" "$work"
mkdir -p "$work/boot"
cp -a "$base/root" "$work/root"
root=$work/root
version=$(ls "$base/kernel/usr/lib/modules")

# Modules beyond what the kernel has built in: network and disks of QEMU, FAT, what RAUC mounts, and lines for the GPIO driver.
modules() {
    found=$base/kernel/usr/lib/modules/$version
    mkdir -p "$root/usr/lib/modules/$version"
    for name in virtio_net virtio_rng vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 squashfs loop dm-verity nbd autofs4 configfs \
        gpio-sim softdog; do
        modprobe -d "$base/kernel" -S "$version" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod //p' || true
    done | sort -u | while read -r file; do
        install -D -m 0644 "$file" "$root/usr/lib/modules/$version/${file#*/"$version"/}"
    done
    cp "$found"/modules.builtin* "$found/modules.order" "$root/usr/lib/modules/$version/"
    depmod -b "$root" "$version"
}

# What the scripts of base-passwd, libc-bin, ca-certificates and mawk do.
package_scripts() {
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/nsswitch.conf"
    mkdir -p "$root/etc/ssl/certs"
    cat "$root"/usr/share/ca-certificates/*/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    ln -sf mawk "$root/usr/bin/awk"
    # What is unpacked leaves no list; each package of Debian has a folder here.
    ls "$root/usr/share/doc" >"$work/packages"
    # An older systemd-sysusers than the root's does not know the "!" of locked accounts, which they are anyway.
    cat "$root"/usr/lib/sysusers.d/*.conf | sed 's/^\([a-z]\)!/\1/' | systemd-sysusers --root="$root" - 2>"$work/sysusers.log" || {
        cat "$work/sysusers.log" >&2
        return 1
    }
    rm -rf "$root/etc/apt" "$root/etc/init.d" "$root/etc/cron.d"
}

# Debian brings more of systemd than the image for the Pi has. Under emulation each program that starts costs a tenth of a second.
debian_extras() {
    rm -rf "$root"/usr/lib/systemd/system-generators/*
    for unit in systemd-logind.service systemd-user-sessions.service systemd-hostnamed.socket systemd-networkd-persistent-storage.service e2scrub_reap.service \
        getty-static.service modprobe@.service run-lock.mount; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # Without its cache the linker looks for every library in every folder; the root's own program knows its processor.
    for emulator in qemu-aarch64-static qemu-aarch64; do
        command -v "$emulator" >/dev/null || continue
        "$emulator" -L "$root" "$root/usr/sbin/ldconfig" -r "$root" && break
    done || echo "no qemu-aarch64: the machine boots without ld.so.cache, which is slower" >&2
}

# What a Raspberry Pi's firmware looks for. Its device tree is that of QEMU's machine, with the words for the kernel that such a tree brings along: here those
# that make the machine quick to start.
raspberry_pi() {
    images=$work/images
    mkdir -p "$images/rpi-firmware/overlays"
    cp "$board/$machine/config.txt" "$images/rpi-firmware/"
    case "$machine" in
    rpi64) programs='bootcode.bin start.elf start4.elf' trees='bcm2710-rpi-3-b bcm2711-rpi-4-b' ;;
    *) programs='' trees='bcm2712-rpi-5-b bcm2712-rpi-cm5-cm5io' ;;
    esac
    for name in $programs; do
        printf '\177ELF' >"$images/rpi-firmware/$name"
    done
    : >"$images/rpi-firmware/overlays/sc16is752-spi1.dtbo"
    gzip -1 -c "$base"/kernel/boot/vmlinuz-* >"$images/Image.gz"
    for name in $trees; do
        # shellcheck disable=SC2046 # one word a line
        qemu-system-aarch64 -M "virt,dumpdtb=$images/$name.dtb" $(cat "$here/machine") -display none -nodefaults 2>/dev/null
        fdtput -d "$images/$name.dtb" /chosen rng-seed kaslr-seed
        fdtput -t s "$images/$name.dtb" /chosen bootargs "$(sed -n -e 's/^tg_args=//p' "$here/uboot.args")"
    done
    "$board/boot.sh" "$images" "$machine"
    mv "$images/boot" "$images/drop" "$work/"
    rm -rf "$images"
    sed -i 's/rootfstype=[a-z]*/rootfstype=ext4/' "$work"/boot/cmdline*.txt
}

modules
package_scripts
install -D -m 0755 "$daemon" "$root/usr/bin/gateway-daemon"
"$board/post-build.sh" "$root" "$machine"
cp -a "$here/overlay/." "$root/"
debian_extras

case "$machine" in
rpi*) raspberry_pi ;;
*)
    mkdir -p "$work/drop"
    cp "$base"/kernel/boot/vmlinuz-* "$work/boot/Image"
    cp "$here/uboot.args" "$work/boot/"
    "$board/uboot/mkbootscr.sh" "$work/drop/boot.scr"
    ;;
esac

# The root is only read: no journal, no room left but what the file system itself needs.
size=$(($(du -sm --apparent-size "$root" | cut -f1) * 115 / 100 + 16))
truncate -s "${size}M" "$work/rootfs.ext4"
mkfs.ext4 -q -F -O ^has_journal -b 4096 -m 0 -L tg-root -d "$root" "$work/rootfs.ext4"
"$board/mkimage.sh" --boot "$work/boot" --root "$work/rootfs.ext4" --drop "$work/drop" --out "$work/card.img"
"$board/rauc/mkbundle.sh" --machine "$machine" --boot "$work/boot" --root "$work/rootfs.ext4" --out "$work/update.raucb"
mv "$work" "$out"
