#!/bin/sh
# Turns the root file system of a builder into Tidegate's: units, update configuration, and what a read-only root needs.
#
#   finalize.sh ROOT [MACHINE]        MACHINE is rpi64, rpi5 or qemu; $TIDEGATE_MACHINE without it
#
# Buildroot calls it as post-build script, the QEMU test machine after it has unpacked Debian packages. Running it twice is the same
# as once. The certificate that updates must be signed with comes from $TIDEGATE_KEYRING (default: the development one of pki.sh).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=image.env
. "$here/image.env"

fail() {
    echo "finalize.sh: $*" >&2
    exit 1
}

root=${1:?the root file system}
machine=${2:-${TIDEGATE_MACHINE:-}}
[ -d "$root/usr" ] || fail "$root is no root file system"
case "$machine" in
rpi64 | rpi5)
    compatible=$TIDEGATE_COMPATIBLE_RPI64 bootloader=custom bootloader_lines=''
    [ "$machine" = rpi64 ] || compatible=$TIDEGATE_COMPATIBLE_RPI5
    handler_lines="[handlers]\nbootloader-custom-backend=/usr/lib/tidegate/rauc-tryboot"
    ;;
qemu)
    compatible=$TIDEGATE_COMPATIBLE_QEMU bootloader=uboot handler_lines=''
    # What boot.cmd understands: 3 is a slot that was marked good, 2 are the tries of a fresh one.
    bootloader_lines="boot-attempts=3\nboot-attempts-primary=2"
    ;;
*) fail "the machine is rpi64, rpi5 or qemu, not '$machine'" ;;
esac

units() {
    "$project/systemd/install.sh" "$root"
    install -D -m 0644 "$here/image.env" "$root/usr/lib/tidegate/image.env"
}

updates() {
    keyring=${TIDEGATE_KEYRING:-}
    if [ -z "$keyring" ]; then
        "$here/rauc/pki.sh" "$here/rauc/keys"
        keyring=$here/rauc/keys/keyring.pem
    fi
    install -D -m 0644 "$keyring" "$root/etc/rauc/keyring.pem"
    sed -e "s|@COMPATIBLE@|$compatible|" -e "s|@BOOTLOADER@|$bootloader|" \
        -e "s|@BOOTLOADER_LINES@|$bootloader_lines|" -e "s|@HANDLER_LINES@|$handler_lines|" \
        -e "s|@ROOT_A@|$TIDEGATE_PARTUUID_ROOT_A|" -e "s|@BOOT_A@|$TIDEGATE_PARTUUID_BOOT_A|" \
        -e "s|@ROOT_B@|$TIDEGATE_PARTUUID_ROOT_B|" -e "s|@BOOT_B@|$TIDEGATE_PARTUUID_BOOT_B|" \
        "$here/rauc/system.conf.in" >"$root/etc/rauc/system.conf"
    if [ "$bootloader" = uboot ]; then
        echo "/dev/nvme0n1 $TIDEGATE_UBOOT_ENV_OFFSET $TIDEGATE_UBOOT_ENV_SIZE" >"$root/etc/fw_env.config"
    fi
}

# What a root that is never written to must have before it starts; systemd/install.sh has made the mount points.
read_only() {
    mkdir -p "$root/run" "$root/tmp" "$root/proc" "$root/sys" "$root/dev"
    # Everything in /var is made at boot by tmpfiles.d; a package's files there would be hidden by the data partition.
    find "$root/var" -mindepth 1 -delete
    ln -sf ../proc/self/mounts "$root/etc/mtab"
    # The root is mounted by the kernel, the rest by tidegate-storage.
    : >"$root/etc/fstab"
    # systemd's tmpfiles.d would make them at each boot, and complain.
    for file in locale.conf vconsole.conf; do
        [ -e "$root/etc/$file" ] || : >"$root/etc/$file"
    done
}

names() {
    # Buildroot's and Debian's os-release may be a link to /usr/lib; one file says it for both.
    rm -f "$root/etc/os-release" "$root/usr/lib/os-release"
    cat >"$root/usr/lib/os-release" <<RELEASE
ID=tidegate
NAME="Tidegate"
PRETTY_NAME="Tidegate $TIDEGATE_VERSION"
VERSION_ID=$TIDEGATE_VERSION
IMAGE_ID=$compatible
IMAGE_VERSION=$TIDEGATE_VERSION
RELEASE
    ln -s ../usr/lib/os-release "$root/etc/os-release"
    printf 'Tidegate %s\n' "$TIDEGATE_VERSION" >"$root/etc/issue"
    # Until provisioning says otherwise.
    echo tidegate >"$root/etc/hostname"
}

# Nobody reads manuals on a gateway.
slim() {
    rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/locale" \
        "$root/usr/share/bash-completion" "$root/usr/share/zsh" "$root/usr/share/lintian"
}

units
updates
read_only
names
slim
