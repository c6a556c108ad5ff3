#!/bin/sh
# Compiles boot.cmd with the values of image.env: mkbootscr.sh OUT
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../image.env
. "$here/../image.env"

out=${1:?the boot.scr to write}
work=$(mktemp)
trap 'rm -f "$work"' EXIT
sed -e "s|@ENV_BLOCK@|$(printf %x $((TIDEGATE_UBOOT_ENV_OFFSET / 512)))|" \
    -e "s|@ENV_SIZE@|$(printf %x $((TIDEGATE_UBOOT_ENV_SIZE)))|" \
    -e "s|@ROOT_A@|$TIDEGATE_PARTUUID_ROOT_A|" -e "s|@ROOT_B@|$TIDEGATE_PARTUUID_ROOT_B|" \
    "$here/boot.cmd" >"$work"
mkimage -A arm64 -T script -C none -n 'Tidegate' -d "$work" "$out" >/dev/null
