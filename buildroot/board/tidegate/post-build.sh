#!/bin/sh
# Buildroot's post-build script: post-build.sh TARGET MACHINE (BR2_ROOTFS_POST_SCRIPT_ARGS). What is the same on every builder's root is in
# finalize.sh; here is only what Buildroot and the Raspberry Pi add.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${1:?the target folder}
machine=${2:?the machine: rpi64, rpi5 or qemu}

"$here/finalize.sh" "$root" "$machine"

# Wi-Fi is started by udev as tidegate-wifi.service. The units of the package would start a second wpa_supplicant beside it, and each takes the
# keys of the other's link away.
rm -f "$root"/usr/lib/systemd/system/wpa_supplicant*.service "$root"/etc/systemd/system/*.wants/wpa_supplicant*

# A kmod that cannot unpack modules writes an empty list of them and says nothing: no Wi-Fi, I2C, SPI or 1-wire on the board.
for modules in "$root"/lib/modules/*/ "$root"/usr/lib/modules/*/; do
    [ -d "$modules/kernel" ] || continue
    if [ ! -s "$modules/modules.dep" ]; then
        echo "post-build.sh: $modules has modules and modules.dep names none of them: the kernel packs them, and kmod of host or target cannot unpack them" >&2
        exit 1
    fi
done

# The licence texts of the crates in the daemon, which `cargo xtask image` has collected: who gets the program gets them.
if [ -n "${TIDEGATE_NOTICES:-}" ]; then
    install -D -m 0644 "$TIDEGATE_NOTICES" "$root/usr/share/licenses/tidegate/crates.txt"
fi

case "$machine" in
rpi*)
    install -D -m 0755 "$here/rauc/tryboot-backend.sh" "$root/usr/lib/tidegate/rauc-tryboot"
    install -D -m 0755 "$here/rauc/tryboot-shutdown.sh" "$root/usr/lib/systemd/system-shutdown/tidegate-tryboot"
    # A link of the system's own: presets would take one in /etc away.
    units=$root/usr/lib/systemd/system
    install -D -m 0644 "$here/rauc/tidegate-boot-choice.service" "$units/tidegate-boot-choice.service"
    mkdir -p "$units/multi-user.target.wants"
    ln -sf ../tidegate-boot-choice.service "$units/multi-user.target.wants/"
    ;;
esac
