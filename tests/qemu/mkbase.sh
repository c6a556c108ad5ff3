#!/bin/sh
# Unpacks the packages of the test machine, and its kernel, into folders: mkbase.sh KERNEL OUT
#
# KERNEL is a package of Debian, or of backports when it ends in /backports. In the list, a package that ends in /forky comes from the next
# release. Unpacked and not installed: no script of a package runs, so no emulation is needed; what the scripts would have done that
# matters here is done below and in mkroot.sh. Needs root for ownership.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
kernel=${1:?the kernel package}
out=${2:?the folder to make}
suite=trixie
next=forky

# The mirror and key that this machine's own packages come from.
# shellcheck disable=SC2016 # $(SITE) is apt's
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || true)
mirror=${mirror:-http://deb.debian.org/debian}
key=/usr/share/keyrings/debian-archive-keyring.gpg

rm -rf "$out" "$out.new"
mkdir -p "$out.new"
{
    echo "deb [signed-by=$key] $mirror $suite main"
    case "$kernel" in */backports) echo "deb [signed-by=$key] $mirror $suite-backports main" ;; esac
    # A mirror that is behind is good enough here; what it has is signed all the same.
    echo "deb [signed-by=$key check-valid-until=no] $mirror $next main"
} >"$out.new/sources"
names=$(sed -e 's/#.*//' "$here/packages")
packages=$(echo "$names" | sed -e "s,/$next,," | tr -s ' \n' ',' | sed -e 's/^,//' -e 's/,$//')
cat >"$out.new/preferences" <<PINS
Package: *
Pin: release n=$next
Pin-Priority: 1

Package: $(echo "$names" | sed -n -e "s,/$next,,p" | tr -s '\n' ' ')
Pin: release n=$next
Pin-Priority: 990
PINS

# The kernel comes without its dependencies, which would make an initramfs that is not needed.
cat >"$out.new/kernel.sh" <<'HOOK'
#!/bin/sh
# Runs inside mmdebstrap, with its apt. Arguments: the kernel package, the folder to unpack it into.
set -eu
name=${1%/backports}
release=''
[ "$name" = "$1" ] || release=-t=trixie-backports
cd "$2"
# The meta package names the real one, and from 6.19 on its image and modules are packages of their own.
real=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install --simulate --no-install-recommends $release "$name:arm64" |
    sed -n -e 's/^Inst \(linux-\(image\|binary\|modules\|base\)-[0-9][^ :]*\).*/\1/p')
for package in $real; do
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download --quiet=2 -o APT::Sandbox::User=root "$package:arm64"
done
for deb in ./*.deb; do
    dpkg-deb -x "$deb" .
    rm "$deb"
done
# From 6.19 on the kernel lies beside its modules.
mkdir -p boot
for image in usr/lib/modules/*/vmlinuz; do
    [ ! -f "$image" ] || mv "$image" "boot/vmlinuz-$(basename "$(dirname "$image")")"
done
HOOK
chmod +x "$out.new/kernel.sh"
mkdir "$out.new/kernel" "$out.new/root"
mmdebstrap --quiet --variant=extract --architectures=arm64 --mode=root --format=directory \
    --aptopt='APT::Install-Recommends "false"' --include="$packages" \
    --setup-hook="cp '$out.new/preferences' \"\$1\"/etc/apt/preferences.d/next" \
    --extract-hook="'$out.new/kernel.sh' '$kernel' '$out.new/kernel'" \
    "$suite" "$out.new/root" "$out.new/sources"
rm "$out.new/root/etc/apt/preferences.d/next"

# depmod and modprobe look below /lib.
ln -s usr/lib "$out.new/kernel/lib"
depmod -b "$out.new/kernel" "$(ls "$out.new/kernel/usr/lib/modules")"
mv "$out.new" "$out"
