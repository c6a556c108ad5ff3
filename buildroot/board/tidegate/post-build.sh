#!/bin/sh
# Buildroot's post-build script: post-build.sh TARGET MACHINE (BR2_ROOTFS_POST_SCRIPT_ARGS). What is the same on every builder's root is in
# finalize.sh; here is only what Buildroot and the Raspberry Pi add.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${1:?the target folder}
machine=${2:?the machine: rpi64, rpi5 or qemu}

"$here/finalize.sh" "$root" "$machine"

# Wi-Fi: wpa_supplicant starts with the radio, with the file that provisioning wrote into /run. The link that starts it is a part of the
# system: presets would take one in /etc away.
units=$root/usr/lib/systemd/system
install -D -m 0644 "$here/wifi/wpa_supplicant.conf" "$units/wpa_supplicant@.service.d/10-tidegate.conf"
mkdir -p "$root/etc/wpa_supplicant" "$units/sys-subsystem-net-devices-wlan0.device.wants"
ln -sf /run/wpa_supplicant/wpa_supplicant-wlan0.conf "$root/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
ln -sf ../wpa_supplicant@.service "$units/sys-subsystem-net-devices-wlan0.device.wants/wpa_supplicant@wlan0.service"

case "$machine" in
rpi*)
    install -D -m 0755 "$here/rauc/tryboot-backend.sh" "$root/usr/lib/tidegate/rauc-tryboot"
    install -D -m 0755 "$here/rauc/tryboot-shutdown.sh" "$root/usr/lib/systemd/system-shutdown/tidegate-tryboot"
    ;;
esac
