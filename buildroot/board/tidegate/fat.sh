# shellcheck shell=sh
# One way to make a FAT file system without root, for the card image and for update bundles. Read in by `. fat.sh`.

# A FAT32 of SIZE MiB with LABEL and everything that is in DIR, which may be empty. One sector per cluster: 64 MiB have too few
# larger ones for FAT32. The bytes depend on nothing but what is in DIR and its times.
fat() { # FILE SIZE LABEL DIR
    truncate -s "${2}M" "$1"
    mkfs.vfat -F 32 -s 1 -n "$3" --invariant "$1" >/dev/null
    [ -n "$4" ] || return 0
    for pass in others kernel; do
        for entry in "$4"/* "$4"/.[!.]*; do
            [ -e "$entry" ] || continue
            # Last what changes most, or every file behind it would move, by no whole number of blocks that an update finds again.
            case "${entry##*/}" in kernel*.img | Image*) is=kernel ;; *) is=others ;; esac
            [ "$is" = "$pass" ] || continue
            if ! mcopy -s -p -Q -i "$1" "$entry" ::; then
                echo "the files of $4 do not fit into $2 MiB" >&2
                return 1
            fi
        done
    done
}

# Says which of the programs named is missing, and how to install it.
need() {
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            echo "$tool is missing: apt-get install -y dosfstools mtools e2fsprogs erofs-utils fdisk rauc squashfs-tools openssl" >&2
            return 1
        fi
    done
}
