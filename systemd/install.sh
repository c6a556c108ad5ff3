#!/bin/sh
# Installs units, scripts and settings into a root folder: install.sh [--without-image-parts] ROOT
#
#   Buildroot and the test machines call it for their target folder. On a plain distribution: sudo systemd/install.sh --without-image-parts /
#   which brings the gateway as a service and leaves partitions, network, journal, updates and the presets of others alone.
#
# The daemon itself is not installed here: it belongs at ROOT/usr/bin/gateway-daemon.
set -eu

usage() {
    echo "usage: ${0##*/} [--without-image-parts] ROOT" >&2
    exit 64
}

image=yes
if [ "${1:-}" = --without-image-parts ]; then
    image=no
    shift
fi
[ $# -eq 1 ] || usage
from=$(cd "$(dirname "$0")" && pwd)
[ -d "$1" ] || {
    echo "${0##*/}: $1 is not a folder; expected the root of the system to install into" >&2
    exit 64
}
to=$(cd "$1" && pwd)
to=${to%/}

# Of the units, those that the gateway needs on any machine.
plain_units="tidegate.service tidegate.path tidegate.slice"

put() { # FILE FOLDER [MODE]
    install -d -m 0755 "$to$2"
    install -m "${3:-0644}" "$from/$1" "$to$2/${1##*/}"
}

put_all() { # FOLDER-HERE FOLDER-THERE [MODE]
    for file in "$from/$1"/*; do
        [ ! -f "$file" ] || put "$1/${file##*/}" "$2" "${3:-0644}"
    done
}

# A group or user as sysusers.d has it, for machines that build a root without systemd-sysusers.
free_id() { # FILE: ids of system users, from above, as systemd-sysusers does
    id=999
    while cut -d: -f3 "$to/etc/passwd" "$to/etc/group" | grep -qx "$id"; do id=$((id - 1)); done
    echo "$id"
}

add_group() { # NAME
    grep -q "^$1:" "$to/etc/group" || echo "$1:x:$(free_id):" >>"$to/etc/group"
}

add_users() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers --root="$to/" tidegate.conf
        return
    fi
    for group in dialout gpio tidegate; do add_group "$group"; done
    grep -q '^tidegate:' "$to/etc/passwd" ||
        echo "tidegate:x:$(free_id):$(sed -n 's/^tidegate:[^:]*:\([0-9]*\):.*/\1/p' "$to/etc/group"):Tidegate gateway:/var/lib/tidegate:/usr/sbin/nologin" >>"$to/etc/passwd"
    [ ! -f "$to/etc/shadow" ] || grep -q '^tidegate:' "$to/etc/shadow" || echo 'tidegate:!*:::::::' >>"$to/etc/shadow"
}

# Enables what the preset file says; on a machine without systemctl by the links that it would make.
enable_all() {
    if command -v systemctl >/dev/null; then
        systemctl --root="$to/" preset-all --preset-mode=full
        return
    fi
    for unit in "$to"/usr/lib/systemd/system/tidegate*; do
        name=${unit##*/}
        grep -qx "enable $name" "$to/usr/lib/systemd/system-preset/10-tidegate.preset" || continue
        target=$(sed -n 's/^WantedBy=//p' "$unit")
        install -d -m 0755 "$to/etc/systemd/system/$target.wants"
        ln -sf "/usr/lib/systemd/system/$name" "$to/etc/systemd/system/$target.wants/$name"
    done
}

put_all sysusers.d /usr/lib/sysusers.d
put tmpfiles.d/tidegate.conf /usr/lib/tmpfiles.d
put_all modules-load.d /usr/lib/modules-load.d
put_all udev /usr/lib/udev/rules.d
# Where the configuration lies or is mounted.
install -d -m 0755 "$to/etc/tidegate"

if [ "$image" = no ]; then
    for unit in $plain_units; do put "system/$unit" /usr/lib/systemd/system; done
    put tmpfiles.d/tidegate-plain.conf /usr/lib/tmpfiles.d
    add_users
    if [ -z "$to" ]; then
        systemd-tmpfiles --create tidegate.conf tidegate-plain.conf
        systemctl daemon-reload
        systemctl enable tidegate.service tidegate.path
    else
        systemctl --root="$to/" enable tidegate.service tidegate.path
    fi
    exit 0
fi

put_all system /usr/lib/systemd/system
put_all system/tmp.mount.d /usr/lib/systemd/system/tmp.mount.d
put_all lib /usr/lib/tidegate 0755
put_all system-preset /usr/lib/systemd/system-preset
put_all network /usr/lib/systemd/network
for part in timesyncd journald system resolved; do
    put_all "$part.conf.d" "/usr/lib/systemd/$part.conf.d"
done
put_all sysctl.d /usr/lib/sysctl.d
put e2fsck.conf /etc
add_users
enable_all

# Nobody can log in, so nobody is asked to: the consoles are for messages. The generator of serial consoles follows no preset.
for unit in serial-getty@.service getty@.service console-getty.service; do
    ln -sf /dev/null "$to/etc/systemd/system/$unit"
done

# A root that is never written: an empty machine-id is drawn anew at each boot, and nothing on the gateway depends on it.
: >"$to/etc/machine-id"
ln -sf ../run/systemd/resolve/resolv.conf "$to/etc/resolv.conf"
# A name that is not asked of any server.
[ -f "$to/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$to/etc/hosts"
# Mount points.
install -d -m 0755 "$to/boot/firmware" "$to/var"
# The time of the build is the lower bound of the clock where no last time is known. systemd takes it from the file's time.
touch -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" "$to/usr/lib/clock-epoch"
