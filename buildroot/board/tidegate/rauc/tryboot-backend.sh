#!/bin/sh
# RAUC's custom boot loader backend for the Raspberry Pi: A and B by the firmware's "tryboot"; docs/decisions/0033 has the reasons.
#
#   tryboot-backend.sh get-primary | set-primary SLOT | get-state SLOT | set-state SLOT good|bad | get-current
#   tryboot-backend.sh arm          before the machine restarts: tells the firmware, if a trial is wanted (system-shutdown/tidegate-tryboot)
#   tryboot-backend.sh look         at each start: makes an autoboot.txt that is gone anew, and says what else is wrong (tidegate-boot-choice.service)
#
# The contract: RAUC manual, "Custom bootloader backend interface". A slot is called by its bootname, A or B.
#
# What the firmware boots stands in autoboot.txt on the first partition: [all] boot_partition is the slot that every reset leads to,
# [tryboot] boot_partition the other one, taken once when the restart said "0 tryboot". The firmware clears that flag before it starts
# anything, so a slot on trial that hangs, panics or loses power is left by itself.
#
#   an installation          set-state B bad, images are written, set-primary B: takes usercfg.txt along, notes in /run that B is wanted
#   the restart              passes "0 tryboot"; the firmware boots B, autoboot.txt still says A
#   the health gate          set-state B good: autoboot.txt says B; or the gateway restarts and is A again
#   power fails before that  A again, and the note in /run is gone: B is tried when someone installs or activates it anew
#
# Whether a slot is known to work is kept beside RAUC's own records, and which one is the primary, for the case that autoboot.txt is lost: it lies
# on the drive that people put files on. Without the record only the primary counts as good.
set -eu

autoboot=${TIDEGATE_AUTOBOOT:-/boot/firmware/autoboot.txt}
firmware=${TIDEGATE_BOOTLOADER_DT:-/proc/device-tree/chosen/bootloader}
reboot_param=${TIDEGATE_REBOOT_PARAM:-/run/systemd/reboot-param}
wanted=${TIDEGATE_TRYBOOT_WANTED:-/run/tidegate-tryboot}
records=${TIDEGATE_SLOT_RECORDS:-/var/lib/rauc}
cmdline=${TIDEGATE_CMDLINE:-/proc/cmdline}
faults=${TIDEGATE_FAULTS_DIR:-/run/tidegate-faults}
image=${TIDEGATE_IMAGE_ENV:-/usr/lib/tidegate/image.env}
# shellcheck source=/dev/null
[ ! -r "$image" ] || . "$image"
boot_a=${TIDEGATE_BOOT_A:-/dev/disk/by-partuuid/${TIDEGATE_PARTUUID_BOOT_A:-74646777-02}}
boot_b=${TIDEGATE_BOOT_B:-/dev/disk/by-partuuid/${TIDEGATE_PARTUUID_BOOT_B:-74646777-03}}
mounts=${TIDEGATE_SLOT_MOUNTS:-/run/tidegate-slots}
# A whole boot partition has 64 MiB; what is included at a start is a few kB, or garbage.
settings_bytes_max=1048576

fail() {
    echo "tryboot: $*" >&2
    exit 1
}

# Slots are told apart by their boot partition: docs/decisions/0033, image.env.
partition_of() { # SLOT
    case "$1" in
    A) echo 2 ;;
    B) echo 3 ;;
    *) fail "there is no slot '$1', only A and B" ;;
    esac
}

slot_of() { # PARTITION
    case "$1" in
    2) echo A ;;
    3) echo B ;;
    *) return 1 ;;
    esac
}

other() { # SLOT
    case "$1" in
    A) echo B ;;
    *) echo A ;;
    esac
}

# The content of autoboot.txt that makes SLOT the one every reset leads to. Both have the same number of bytes.
autoboot_for() { # SLOT
    printf '[all]\ntryboot_a_b=1\nboot_partition=%s\n[tryboot]\nboot_partition=%s\n' \
        "$(partition_of "$1")" "$(partition_of "$(other "$1")")"
}

# The slot that a text makes the primary; line ends of Windows and empty lines at the end do not matter.
slot_in() { # FILE
    text=$(tr -d '\r' <"$1")
    for slot in A B; do
        if [ "$(autoboot_for "$slot")" = "$text" ]; then
            echo "$slot"
            return
        fi
    done
    return 1
}

primary() {
    [ -r "$autoboot" ] || fail "$autoboot cannot be read: is the first partition mounted?"
    slot_in "$autoboot" ||
        fail "$autoboot was changed by someone; delete it and start the gateway again, and it is made anew"
}

# A 32-bit big-endian number of the firmware, or nothing.
number() { # FILE
    bytes=$(od -An -v -tu1 -N4 "$1" 2>/dev/null) || bytes=''
    # shellcheck disable=SC2086 # four numbers
    set -- $bytes
    [ $# -ne 4 ] || echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}

# The slot that runs, from the firmware itself.
current() {
    started=$(number "$firmware/partition")
    [ -n "$started" ] || fail "$firmware/partition says nothing: not started by a Raspberry Pi's firmware of 2022-11 or later"
    slot_of "$started" || fail "the firmware booted partition $started, which is no slot; expected 2 or 3"
}

# The same, with empty lines up to LENGTH: a file with the line ends of Windows is a few bytes longer, and keeps its length.
autoboot_padded() { # SLOT LENGTH
    autoboot_for "$1"
    more=$(($2 - $(autoboot_for "$1" | wc -c)))
    while [ "$more" -gt 0 ]; do
        echo
        more=$((more - 1))
    done
}

# Overwrites autoboot.txt where it lies: the same sector, the same length, so that no cluster is taken or freed and the file allocation
# table stays as it is. A power cut leaves the old sector or the new one, and both boot a whole system.
commit() { # SLOT
    length=$(wc -c <"$autoboot")
    [ "$length" -le 512 ] || fail "$autoboot is longer than the sector that the firmware reads"
    write_autoboot "$1" "$length"
    main=$1
    note primary "$1"
}

write_autoboot() { # SLOT LENGTH
    # tidegate-storage mounts the partition read-only: what is not open cannot be torn.
    folder=${autoboot%/*} closed=''
    [ -w "$folder" ] || closed=yes
    [ -z "$closed" ] || mount -o remount,rw "$folder" || fail "$folder cannot be made writable"
    written=yes
    autoboot_padded "$1" "$2" | dd of="$autoboot" bs=512 conv=notrunc,fsync 2>/dev/null || written=''
    [ -z "$closed" ] || mount -o remount,ro "$folder" || echo "tryboot: $folder stays writable" >&2
    [ -n "$written" ] || fail "$autoboot cannot be written"
    [ "$(slot_in "$autoboot")" = "$1" ] || fail "$autoboot does not hold what was written; the card may be at its end"
}

# Keeps a word over a power cut.
note() { # NAME WORD
    mkdir -p "$records"
    printf '%s\n' "$2" >"$records/$1.part"
    sync "$records/$1.part"
    mv "$records/$1.part" "$records/$1"
}

record() { # SLOT good|bad
    note "slot-$1" "$2"
}

recorded() { # SLOT
    cat "$records/slot-$1" 2>/dev/null || :
}

state() { # SLOT
    if [ "$(recorded "$1")" = bad ]; then
        echo bad
    elif [ -r "$records/slot-$1" ] || [ "$1" = "$main" ]; then
        echo good
    else
        echo bad
    fi
}

# Without autoboot.txt the firmware starts the first partition with a file system, which is A's. While A is bad, half written above all, it has none: its
# boot sector is taken away, of which FAT32 keeps a copy in sector 6. Slot B is never what a lost file leads to.
hide() { # SLOT
    if [ "$1" = A ] && [ -e "$boot_a" ]; then
        dd if=/dev/zero of="$boot_a" bs=512 count=1 conv=notrunc,fsync 2>/dev/null ||
            echo "tryboot: $boot_a cannot be written, so slot A stays what starts when autoboot.txt is lost" >&2
    fi
}

# Brings it back, before A is tried.
show() { # SLOT
    [ "$1" = A ] && [ -e "$boot_a" ] || return 0
    [ "$(tail_of_sector 0)" != 55aa ] || return 0
    [ "$(tail_of_sector 6)" = 55aa ] || fail "slot A has no boot files; install an update into it"
    dd if="$boot_a" of="$boot_a" bs=512 skip=6 count=1 conv=notrunc,fsync 2>/dev/null || fail "$boot_a cannot be written"
}

# The mark of a boot sector, in hexadecimal.
tail_of_sector() { # NUMBER
    od -An -v -tx1 -j $(($1 * 512 + 510)) -N 2 "$boot_a" | tr -d ' \n'
}

mark_good() { # SLOT
    if [ "$1" != "$main" ]; then
        running=$(current)
        [ "$1" = "$running" ] ||
            fail "slot $1 does not run, so nobody knows that it works; start it first: rauc status mark-active $1, then restart"
        # It may have been marked bad before, in this start.
        show "$1"
        # Both are known to work, before the choice: after a cut in between one of them starts, and the other one is there to go back to.
        record "$main" good
        record "$1" good
        commit "$1"
    else
        show "$1"
        record "$1" good
    fi
    [ "$(cat "$wanted" 2>/dev/null)" != "$1" ] || rm -f "$wanted"
}

mark_bad() { # SLOT
    if [ "$1" != "$main" ]; then
        # Also the start of an installation into this slot: from here on it must not be tried.
        [ "$(cat "$wanted" 2>/dev/null)" != "$1" ] || rm -f "$wanted"
        record "$1" bad
        hide "$1"
        return
    fi
    # The slot that every reset leads to. RAUC installs into the slot that does not run: while the other one is on trial that would be this
    # one, and a power cut in the middle of it would leave nothing that boots.
    running=$(current)
    [ "$1" = "$running" ] ||
        fail "slot $1 is what a restart leads to and the running slot is on trial; keep the running one first (rauc status mark-good) or restart"
    spare=$(other "$1")
    [ "$(state "$spare")" = good ] ||
        fail "slot $spare is not known to work, so slot $1 stays the one that boots"
    commit "$spare"
    record "$1" bad
    hide "$1"
    rm -f "$wanted"
}

boot_of() { # SLOT
    case "$1" in
    A) echo "$boot_a" ;;
    *) echo "$boot_b" ;;
    esac
}

# Takes away what a step before, or one that was cut off, has mounted.
unmount() {
    for folder in "$mounts/running" "$mounts/next"; do
        umount "$folder" 2>/dev/null || :
    done
}

mount_boot() { # SLOT ro|rw FOLDER
    mount -t vfat -o "$2,nosuid,nodev,noexec" "$(boot_of "$1")" "$mounts/$3" ||
        fail "the boot partition of slot $1 cannot be mounted, so the settings of the board ($settings) do not come along"
}

settings=usercfg.txt

sum_of() { # FILE
    cksum 2>/dev/null <"$1" || echo none
}

same() { # FILE FILE: without cmp, which is not in every system
    [ "$(sum_of "$1")" = "$(sum_of "$2")" ]
}

# The settings of the board with which the running system has started, into the slot that is tried next: without them a hat is silent there, and the test of the
# update fails. RAUC's own handlers come after the choice, too late to fail. In a process of its own: it ends with the reason.
carry() { # SLOT
    running=$(current) || exit 1
    # On trial, and chosen once more.
    [ "$running" != "$1" ] || exit 0
    mkdir -p "$mounts/running" "$mounts/next" || exit 1
    unmount
    trap unmount EXIT
    from=$mounts/running/$settings to=$mounts/next/$settings
    mount_boot "$running" ro running
    [ -e "$from" ] || exit 0
    length=$(wc -c <"$from") || fail "$settings on the boot partition of slot $running cannot be read"
    [ "$length" -le "$settings_bytes_max" ] ||
        fail "$settings on the boot partition of slot $running has $length bytes, expected at most $settings_bytes_max: empty it, or write [board] in gateway.toml"
    # What a cut in an earlier try has left; of a partition that RAUC has just written, nothing.
    fsck.vfat -a "$(boot_of "$1")" >/dev/null 2>&1 || :
    mount_boot "$1" rw next
    if ! tr -d '\r' <"$mounts/next/config.txt" | grep -qx "include $settings"; then
        [ "$length" -eq 0 ] || fault board-settings "the system in slot $1 is of a version that knows no [board]: its config.txt does not include $settings, so a hat that needs an overlay is silent there"
        exit 0
    fi
    [ ! -e "$to" ] || ! same "$from" "$to" || exit 0
    { cp "$from" "$to" && sync "$to"; } || fail "$settings cannot be written to the boot partition of slot $1; install the update again"
    # Read back from the card, not from memory.
    umount "$mounts/next" || fail "the boot partition of slot $1 cannot be unmounted"
    mount_boot "$1" ro next
    same "$from" "$to" || fail "the boot partition of slot $1 does not keep $settings; the card may be at its end"
}

set_primary() { # SLOT
    if [ "$1" = "$main" ]; then
        rm -f "$wanted"
        return
    fi
    show "$1"
    if ! (carry "$1"); then
        [ "$(recorded "$1")" != bad ] || hide "$1"
        exit 1
    fi
    echo "$1" >"$wanted"
}

fault() { # NAME SENTENCE
    echo "tryboot: $2" >&2
    mkdir -p "$faults"
    printf '%s\n' "$2" >"$faults/$1.part"
    mv "$faults/$1.part" "$faults/$1"
}

# The firmware takes the slots for what they are only when it knows them: it tells from which partition it started, and the command line is that slot's.
knows_slots() {
    ! grep -qw 'tidegate\.firmware=old' "$cmdline" || return 1
    # In a process of its own: it ends with the reason.
    running=$(current 2>/dev/null) || return 1
    grep -qw "rauc\.slot=$running" "$cmdline"
}

old_firmware="the boot loader of this board is too old for updates, which are refused: bring its EEPROM up to date (docs/flashing.md)"

# What a start finds. A gateway runs with all of these; updates are refused until they are gone.
look() {
    rm -f "$faults/eeprom-too-old" "$faults/boot-choice"
    if ! knows_slots; then
        fault eeprom-too-old "$old_firmware"
        return 0
    fi
    # Lost with its folder entry, or emptied: also zeros, which a cut power may leave.
    if [ ! -e "$autoboot" ] || [ -z "$(tr -d '\000 \r\n' <"$autoboot")" ]; then
        # Without it the firmware starts A, whatever was the primary. A slot on trial is not the one: it is recorded as bad. Where the records are lost as well,
        # the firmware's flag tells a trial; it is also set when the slot on trial could not be started, and was passed over.
        main=$running spare=$(other "$running")
        if [ "$(recorded "$running")" = bad ]; then
            main=$spare
        elif [ "$(number "$firmware/tryboot")" = 1 ] && [ "$(recorded "$spare")" != bad ]; then
            main=$spare
        fi
        case "$(cat "$records/primary" 2>/dev/null)" in A) main=A ;; B) main=B ;; esac
        length=0
        [ ! -e "$autoboot" ] || length=$(wc -c <"$autoboot")
        if [ "$length" -le 512 ] && (write_autoboot "$main" "$length"); then
            echo "tryboot: autoboot.txt was gone and is made anew; slot $main is the one that starts" >&2
        else
            fault boot-choice "autoboot.txt on the drive TIDEGATE is gone and cannot be written: every start is one of system A, and updates are refused"
        fi
        return 0
    fi
    if main=$(slot_in "$autoboot"); then
        # Also of a card whose choice was made before there was a record.
        [ "$(cat "$records/primary" 2>/dev/null)" = "$main" ] || note primary "$main"
        # Whether the firmware knows the line ends of Windows is not documented.
        [ -z "$(tr -dc '\r' <"$autoboot")" ] || (write_autoboot "$main" "$(wc -c <"$autoboot")") ||
            echo "tryboot: autoboot.txt keeps the line ends of Windows" >&2
        return 0
    fi
    fault boot-choice "autoboot.txt on the drive TIDEGATE was changed, so updates are refused: delete it and start the gateway again, and it is made anew"
}

# The first partition is unmounted by then: the note in /run is all there is.
arm() {
    [ -s "$wanted" ] || return 0
    mkdir -p "$(dirname "$reboot_param")"
    # Partition 0: the default way, through autoboot.txt. Read by systemd-shutdown right before the restart.
    echo '0 tryboot' >"$reboot_param"
}

command=${1:-}
[ $# -eq 0 ] || shift
case "$command $#" in
'get-primary 0') if [ -s "$wanted" ]; then cat "$wanted"; else primary; fi ;;
'get-current 0') current ;;
'arm 0') arm ;;
'look 0') look ;;
'get-state 1' | 'set-primary 1' | 'set-state 2')
    partition_of "$1" >/dev/null
    [ ! -e "$faults/eeprom-too-old" ] || [ "$command" = get-state ] || fail "$old_firmware"
    # In a variable of its own: a failure inside of [ ] would go unnoticed.
    main=$(primary)
    case "$command ${2:-}" in
    'get-state ') state "$1" ;;
    'set-primary ') set_primary "$1" ;;
    'set-state good') mark_good "$1" ;;
    'set-state bad') mark_bad "$1" ;;
    *) fail "a slot is good or bad, not '$2'" ;;
    esac
    ;;
*) fail "expected get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, get-current, arm or look" ;;
esac
