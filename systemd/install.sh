#!/bin/sh
# Installs units, scripts and settings into a root folder: install.sh [--without-image-parts] [--yes] ROOT
# Takes them away again:                                   install.sh --uninstall ROOT
#
#   Buildroot and the test machines call it for their target folder. On a plain distribution: sudo systemd/install.sh --without-image-parts /
#   which brings the gateway as a service and leaves partitions, network, journal, updates and the presets of others alone.
#
#   The whole of it turns a machine into a gateway. On the machine that runs, ROOT is /, it says what changes and asks; --yes is the answer of a script.
#   Files of others that it replaces there are kept as FILE.before-tidegate, and --uninstall puts them back.
#
# The daemon itself is not installed here: it belongs at ROOT/usr/bin/gateway-daemon.
set -eu
# Wherever the caller's shell looks for folders, here a name is one of this folder.
unset CDPATH

usage() {
    echo "usage: ${0##*/} [--without-image-parts] [--yes] ROOT" >&2
    echo "       ${0##*/} --uninstall ROOT" >&2
    exit 64
}

image=yes action=install sure=no
while [ $# -gt 1 ]; do
    case "$1" in
    --without-image-parts) image=no ;;
    --uninstall) action=uninstall ;;
    --yes) sure=yes ;;
    *) usage ;;
    esac
    shift
done
case "${1:-}" in '' | -*) usage ;; esac

refuse() { # SENTENCE
    echo "${0##*/}: $1" >&2
    exit 64
}

from=$(cd "$(dirname "$0")" && pwd)
[ -d "$1" ] || refuse "$1 is not a folder; expected the root of the system to install into"
# Empty for the system that runs, by whatever name it is called: //, a link to it, a mount of it elsewhere.
to=$(cd -P "$1" && pwd -P)
# shellcheck disable=SC3013 # every shell of a Linux has -ef
if [ "$to" -ef / ]; then to=; fi

# Of the units, those that the gateway needs on any machine.
plain_units="tidegate.service tidegate.path tidegate.slice"

# What is set of the units of others.
drop_ins="tmp.mount.d systemd-udev-trigger.service.d systemd-resolved.service.d systemd-timesyncd.service.d"

# Nothing of a machine that runs is changed before its owner has said so.
ask() {
    [ "$sure" = no ] || return 0
    cat >&2 <<'TEXT'
This turns the running machine into a gateway, as on Tidegate's own image:
  - nobody can log in at the console any more: getty@, serial-getty@ and console-getty are masked, and so is what a gateway does not need
  - /etc/machine-id is emptied, so that each boot draws a new one
  - /etc/resolv.conf becomes a link to systemd-resolved, and networkd has every wired card ask by DHCP
  - journald, timesyncd, the watchdog and the presets of all units are set as the image has them; partitions are checked and mounted at boot
To bring only the gateway as a service: --without-image-parts
TEXT
    [ -t 0 ] || refuse "nothing was changed; to do all that, say --yes"
    printf 'Go on? [y/N] ' >&2
    read -r answer || answer=
    case "$answer" in
    y | Y | yes) ;;
    *) refuse "nothing was changed" ;;
    esac
}

# On a machine that runs: what is replaced and not ours stays beside it.
keep() { # FILE
    [ -z "$to" ] || return 0
    [ -e "$1" ] || [ -L "$1" ] || return 0
    [ -e "$1.before-tidegate" ] || [ -L "$1.before-tidegate" ] || cp -a "$1" "$1.before-tidegate"
}

put_back() { # FILE
    [ -e "$to$1.before-tidegate" ] || [ -L "$to$1.before-tidegate" ] || return 0
    rm -f "$to$1"
    mv "$to$1.before-tidegate" "$to$1"
}

# In a folder, an absolute link is meant for the system that will run from it: here it leads to the machine that builds.
within() { # PATH
    [ -n "$to" ] && [ -n "$1" ] || return 0
    within "${1%/*}"
    [ -L "$to$1" ] || return 0
    real=$(cd -P "$to$1" 2>/dev/null && pwd -P) || real=
    case "$real" in
    "$to"/*) ;;
    *) refuse "$to$1 is a link to something that is no folder in $to; nothing was changed: make it a relative link" ;;
    esac
}

put() { # FILE FOLDER [MODE]
    case "$action" in
    look)
        within "$2"
        return
        ;;
    uninstall)
        rm -f "$to$2/${1##*/}"
        return
        ;;
    esac
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
        ln -sfn "/usr/lib/systemd/system/$name" "$to/etc/systemd/system/$target.wants/$name"
    done
}

# Every file that is installed, and that an uninstalled machine has no more.
put_plain() {
    put_all sysusers.d /usr/lib/sysusers.d
    put tmpfiles.d/tidegate.conf /usr/lib/tmpfiles.d
    put_all modules-load.d /usr/lib/modules-load.d
    put_all udev /usr/lib/udev/rules.d
}

# What a machine gets that is no image.
put_service() {
    for unit in $plain_units; do put "system/$unit" /usr/lib/systemd/system; done
    put tmpfiles.d/tidegate-plain.conf /usr/lib/tmpfiles.d
}

put_image() {
    put_all system /usr/lib/systemd/system
    for folder in $drop_ins; do put_all "system/$folder" "/usr/lib/systemd/system/$folder"; done
    put_all modprobe.d /usr/lib/modprobe.d
    put_all lib /usr/lib/tidegate 0755
    put_all system-preset /usr/lib/systemd/system-preset
    put_all network /usr/lib/systemd/network
    for part in timesyncd journald system resolved; do
        put_all "$part.conf.d" "/usr/lib/systemd/$part.conf.d"
    done
    put_all sysctl.d /usr/lib/sysctl.d
}

# Looks at all that would be written, before anything is.
look() {
    wanted=$action action=look
    put_plain
    put_service
    # Uninstalling takes away both.
    [ "$image$wanted" = noinstall ] || put_image
    for path in /etc/tidegate /etc/systemd/system /boot/firmware /var /etc/passwd /etc/group /etc/shadow; do
        within "$path"
    done
    for path in "$to"/etc/systemd/system/*.wants; do within "${path#"$to"}"; done
    if [ "$image$wanted" = yesinstall ] && [ -d "$to/etc/resolv.conf" ] && [ ! -L "$to/etc/resolv.conf" ]; then
        refuse "$to/etc/resolv.conf is a folder, expected a file or nothing; nothing was changed"
    fi
    action=$wanted
}

# What is written by a shell goes through no link.
drop_link() { # FILE
    [ ! -L "$1" ] || rm -f "$1"
}

gettys="serial-getty@.service getty@.service console-getty.service"

# What systemd brings and a gateway does not need: each costs the boot a process or a mount before the first reading. Whatever is not there is masked
# all the same, since another systemd may have it.
unneeded() {
    # Nothing uses huge pages or POSIX queues, nobody traces the kernel, and no file system is of FUSE.
    echo dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount
    # Nobody sits there to be asked for a password or for the settings of a first boot.
    echo systemd-ask-password-console.path systemd-ask-password-wall.path systemd-firstboot.service
    # The root is never written and each update is a whole one: users, libraries, hardware and catalogue are those of the build.
    echo systemd-update-done.service systemd-sysusers.service ldconfig.service systemd-hwdb-update.service
    echo systemd-journal-catalog-update.service
    # The journal stays in memory; the network comes from gateway.toml, rules of udev from the image.
    echo systemd-journal-flush.service systemd-network-generator.service systemd-udev-load-credentials.service
    # It never sleeps, measures no boot in a TPM, runs no programs of other processors, and merges nothing into its root.
    echo systemd-hibernate-clear.service systemd-pcrmachine.service systemd-pcrphase-sysinit.service systemd-pcrphase.service
    echo systemd-pcrextend.socket systemd-pcrlock.socket systemd-tpm2-setup-early.service systemd-tpm2-setup.service
    echo systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-sysext.socket
    # Doors of the service manager that nobody goes through.
    echo systemd-initctl.socket systemd-creds.socket
}

uninstall() {
    units=$(cd "$from/system" && echo tidegate*.*)
    # shellcheck disable=SC2086 # the names of units, one a word
    if [ -z "$to" ]; then
        systemctl disable --now $units 2>/dev/null || :
    elif command -v systemctl >/dev/null; then
        systemctl --root="$to/" disable $units 2>/dev/null || :
    fi
    for link in "$to"/etc/systemd/system/*.wants/tidegate*; do
        [ ! -L "$link" ] || rm -f "$link"
    done
    if [ -e "$to/usr/lib/systemd/system-preset/10-tidegate.preset" ]; then
        for unit in $gettys $(unneeded); do
            [ ! -L "$to/etc/systemd/system/$unit" ] || rm -f "$to/etc/systemd/system/$unit"
            put_back "/etc/systemd/system/$unit"
        done
        for file in /etc/machine-id /etc/resolv.conf; do put_back "$file"; done
        rm -f "$to/etc/e2fsck.conf"
        put_back /etc/e2fsck.conf
    fi
    put_plain
    put_service
    put_image
    for folder in tidegate $(for drop_in in $drop_ins; do echo "systemd/system/$drop_in"; done); do
        rmdir "$to/usr/lib/$folder" 2>/dev/null || :
    done
    [ -n "$to" ] || systemctl daemon-reload
    cat >&2 <<TEXT
The gateway is no service of this system any more. What is yours stays, and each of it can go by hand:
  $to/etc/tidegate                configuration, certificates and keys
  $to/var/lib/tidegate            readings that were not delivered
  $to/usr/bin/gateway-daemon      the program
  user and group tidegate
TEXT
}

look
if [ "$action" = uninstall ]; then
    uninstall
    exit 0
fi
[ "$image" = no ] || [ -n "$to" ] || ask

put_plain
# Where the configuration lies or is mounted.
install -d -m 0755 "$to/etc/tidegate"

if [ "$image" = no ]; then
    put_service
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

put_image
for file in /etc/machine-id /etc/resolv.conf /etc/e2fsck.conf; do keep "$file"; done
put e2fsck.conf /etc
add_users
enable_all

# Nobody can log in, so nobody is asked to: the consoles are for messages. The generator of serial consoles follows no preset.
for unit in $gettys $(unneeded); do
    # A mask is ours, of the run before.
    [ -n "$to" ] || [ "$(readlink "/etc/systemd/system/$unit")" = /dev/null ] || keep "/etc/systemd/system/$unit"
    ln -sfn /dev/null "$to/etc/systemd/system/$unit"
done

# A root that is never written: an empty machine-id is drawn anew at each boot, and nothing on the gateway depends on it.
drop_link "$to/etc/machine-id"
: >"$to/etc/machine-id"
ln -sfn ../run/systemd/resolve/resolv.conf "$to/etc/resolv.conf"
# A name that is not asked of any server.
[ -z "$to" ] || drop_link "$to/etc/hosts"
[ -e "$to/etc/hosts" ] || [ -L "$to/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$to/etc/hosts"
# Mount points.
install -d -m 0755 "$to/boot/firmware" "$to/var"
# The time of the build is the lower bound of the clock where no last time is known. systemd takes it from the file's time.
drop_link "$to/usr/lib/clock-epoch"
touch -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" "$to/usr/lib/clock-epoch"
