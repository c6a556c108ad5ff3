#!/bin/sh
# Buildroot's post-build script: post-build.sh TARGET MACHINE (BR2_ROOTFS_POST_SCRIPT_ARGS). What is the same on every builder's root is in
# finalize.sh; here is only what Buildroot and the Raspberry Pi add.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${1:?the target folder}
machine=${2:?the machine: rpi64, rpi5 or qemu}

"$here/finalize.sh" "$root" "$machine"

case "$machine" in
rpi*)
    install -D -m 0755 "$here/rauc/tryboot-backend.sh" "$root/usr/lib/tidegate/rauc-tryboot"
    install -D -m 0755 "$here/rauc/tryboot-shutdown.sh" "$root/usr/lib/systemd/system-shutdown/tidegate-tryboot"
    ;;
esac
