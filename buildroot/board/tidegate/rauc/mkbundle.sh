#!/bin/sh
# Makes a signed update bundle of a boot partition and a root file system.
#
#   mkbundle.sh --machine rpi64|rpi5|qemu --boot DIR --root FILE --out BUNDLE.raucb [--keys DIR] [--compatible TEXT]
#
# --keys DIR holds signer.pem and signer.key (default: $TIDEGATE_KEYS, else rauc/keys, made by pki.sh for development). With the key on a token,
# set TIDEGATE_SIGNER_KEY to its PKCS#11 URI. --compatible overrides what the machine is called; tests use it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../image.env
. "$here/../image.env"
# shellcheck source-path=SCRIPTDIR source=../fat.sh
. "$here/../fat.sh"

fail() {
    echo "mkbundle.sh: $*" >&2
    exit 1
}

machine='' boot='' root='' out='' compatible='' keys=${TIDEGATE_KEYS:-$here/keys}
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || fail "$1 needs a value"
    case "$1" in
    --machine) machine=$2 ;;
    --boot) boot=$2 ;;
    --root) root=$2 ;;
    --out) out=$2 ;;
    --keys) keys=$2 ;;
    --compatible) compatible=$2 ;;
    *) fail "$1 is no option; read the first lines of this script" ;;
    esac
    shift 2
done
[ -d "$boot" ] || fail "--boot must name the folder with the content of the boot partition"
[ -f "$root" ] || fail "--root must name the image of the root file system"
[ -n "$out" ] || fail "--out must name the bundle to write"
case "$machine" in
rpi64) compatible=${compatible:-$TIDEGATE_COMPATIBLE_RPI64} ;;
rpi5) compatible=${compatible:-$TIDEGATE_COMPATIBLE_RPI5} ;;
qemu) compatible=${compatible:-$TIDEGATE_COMPATIBLE_QEMU} ;;
*) fail "--machine is rpi64, rpi5 or qemu" ;;
esac
need mkfs.vfat mcopy rauc mksquashfs openssl
[ "$keys" != "$here/keys" ] || "$here/pki.sh" "$keys"

work=$(mktemp -d "${out}.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/in"
# The label is that of slot A in either slot: nothing looks a boot partition up by its label.
fat "$work/in/boot.img" "$TIDEGATE_BOOT_MIB" "$TIDEGATE_LABEL_BOOT_A" "$boot"
cp --sparse=always "$root" "$work/in/rootfs.img"
sed -e "s|@COMPATIBLE@|$compatible|" -e "s|@VERSION@|$TIDEGATE_VERSION|" "$here/manifest.raucm.in" >"$work/in/manifest.raucm"
rauc bundle --cert "$keys/signer.pem" --key "${TIDEGATE_SIGNER_KEY:-$keys/signer.key}" "$work/in" "$work/out.raucb" >/dev/null
mv -f "$work/out.raucb" "$out"
