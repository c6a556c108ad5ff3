#!/bin/sh
# RAUC's custom boot loader backend for the Raspberry Pi: A and B by the firmware's "tryboot"; docs/decisions/0033 has the reasons.
#
#   tryboot-backend.sh get-primary | set-primary SLOT | get-state SLOT | set-state SLOT good|bad | get-current
#   tryboot-backend.sh arm          before the machine restarts: tells the firmware, if a trial is wanted (system-shutdown/tidegate-tryboot)
#
# The contract: RAUC manual, "Custom bootloader backend interface". A slot is called by its bootname, A or B.
#
# What the firmware boots stands in autoboot.txt on the first partition: [all] boot_partition is the slot that every reset leads to,
# [tryboot] boot_partition the other one, taken once when the restart said "0 tryboot". The firmware clears that flag before it starts
# anything, so a slot on trial that hangs, panics or loses power is left by itself.
#
#   an installation          set-state B bad, images are written, set-primary B: notes in /run that B is wanted
#   the restart              passes "0 tryboot"; the firmware boots B, autoboot.txt still says A
#   the health gate          set-state B good: autoboot.txt says B; or the gateway restarts and is A again
#   power fails before that  A again, and the note in /run is gone: B is tried when someone installs or activates it anew
#
# Whether a slot is known to work is kept beside RAUC's own records. Without the record only the primary counts as good.
set -eu

autoboot=${TIDEGATE_AUTOBOOT:-/boot/firmware/autoboot.txt}
firmware=${TIDEGATE_BOOTLOADER_DT:-/proc/device-tree/chosen/bootloader}
reboot_param=${TIDEGATE_REBOOT_PARAM:-/run/systemd/reboot-param}
wanted=${TIDEGATE_TRYBOOT_WANTED:-/run/tidegate-tryboot}
records=${TIDEGATE_SLOT_RECORDS:-/var/lib/rauc}

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

primary() {
    [ -r "$autoboot" ] || fail "$autoboot cannot be read: is the first partition mounted?"
    for slot in A B; do
        if [ "$(autoboot_for "$slot")" = "$(cat "$autoboot")" ]; then
            echo "$slot"
            return
        fi
    done
    fail "$autoboot was changed by someone; expected the text of docs/decisions/0033 with boot_partition 2 and 3"
}

# The slot that runs, from the firmware itself: a 32-bit big-endian number.
current() {
    number=$(od -An -v -tu1 -N4 "$firmware/partition" 2>/dev/null) || number=''
    # shellcheck disable=SC2086 # four numbers
    set -- $number
    [ $# -eq 4 ] || fail "$firmware/partition says nothing: not started by a Raspberry Pi's firmware of 2022-11 or later"
    slot_of "$4" || fail "the firmware booted partition $4, which is no slot; expected 2 or 3"
}

# Overwrites autoboot.txt where it lies: the same sector, the same length, so that no cluster is taken or freed and the file allocation
# table stays as it is. A power cut leaves the old sector or the new one, and both boot a whole system.
commit() { # SLOT
    [ "$(wc -c <"$autoboot")" -le 512 ] || fail "$autoboot is longer than the sector that the firmware reads"
    # tidegate-storage mounts the partition read-only: what is not open cannot be torn.
    closed=''
    [ -w "$autoboot" ] || closed=yes
    [ -z "$closed" ] || mount -o remount,rw "${autoboot%/*}" || fail "${autoboot%/*} cannot be made writable"
    written=yes
    autoboot_for "$1" | dd of="$autoboot" bs=512 conv=notrunc,fsync 2>/dev/null || written=''
    [ -z "$closed" ] || mount -o remount,ro "${autoboot%/*}" || echo "tryboot: ${autoboot%/*} stays writable" >&2
    [ -n "$written" ] || fail "$autoboot cannot be written"
    main=$(primary)
    [ "$main" = "$1" ] || fail "$autoboot does not hold what was written; the card may be at its end"
}

record() { # SLOT good|bad
    mkdir -p "$records"
    printf '%s\n' "$2" >"$records/slot-$1.part"
    sync "$records/slot-$1.part"
    mv "$records/slot-$1.part" "$records/slot-$1"
}

state() { # SLOT
    if [ -r "$records/slot-$1" ] && [ "$(cat "$records/slot-$1")" = bad ]; then
        echo bad
    elif [ -r "$records/slot-$1" ] || [ "$1" = "$main" ]; then
        echo good
    else
        echo bad
    fi
}

mark_good() { # SLOT
    if [ "$1" != "$main" ]; then
        running=$(current)
        [ "$1" = "$running" ] ||
            fail "slot $1 does not run, so nobody knows that it works; start it first: rauc status mark-active $1, then restart"
        commit "$1"
    fi
    record "$1" good
    [ "$(cat "$wanted" 2>/dev/null)" != "$1" ] || rm -f "$wanted"
}

mark_bad() { # SLOT
    if [ "$1" != "$main" ]; then
        # Also the start of an installation into this slot: from here on it must not be tried.
        [ "$(cat "$wanted" 2>/dev/null)" != "$1" ] || rm -f "$wanted"
        record "$1" bad
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
    rm -f "$wanted"
}

set_primary() { # SLOT
    if [ "$1" = "$main" ]; then
        rm -f "$wanted"
        return
    fi
    echo "$1" >"$wanted"
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
'get-state 1' | 'set-primary 1' | 'set-state 2')
    partition_of "$1" >/dev/null
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
*) fail "expected get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, get-current or arm" ;;
esac
