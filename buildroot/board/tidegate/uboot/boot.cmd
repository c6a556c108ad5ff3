# Chooses the slot to boot; U-Boot runs this from p1 of the test machine, compiled to boot.scr by mkbootscr.sh.
#
# BOOT_ORDER, BOOT_A_LEFT and BOOT_B_LEFT are RAUC's. LEFT = 3 is a slot that was marked good: it is booted without counting, so that
# power cuts never push a gateway out of a good system. 2 and 1 are tries of a fresh one: each boot takes one away before the kernel
# starts, so that a system that hangs, panics or is cut off leaves by itself. 0 is a bad or used-up slot.
# The variables are one sector of the disk: a write of it is whole or was not. Numbers are hexadecimal.

setenv tg_block @ENV_BLOCK@
setenv tg_size @ENV_SIZE@
setenv tg_ok 0
if nvme read ${loadaddr} ${tg_block} 1; then
    if env import -c ${loadaddr} ${tg_size} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then
        setenv tg_ok 1
    fi
fi
if test ${tg_ok} = 0; then
    # A fresh card, or an unreadable sector: A is what was flashed, and B is tried when A does not load.
    setenv BOOT_ORDER A B
    setenv BOOT_A_LEFT 3
    setenv BOOT_B_LEFT 0
fi

setenv tg_slot
setenv tg_trial
for slot in ${BOOT_ORDER} none; do
    if test -n "${tg_slot}"; then
        true
    elif test ${slot} = A; then
        if test ${BOOT_A_LEFT} -eq 3; then
            setenv tg_slot A
        elif test ${BOOT_A_LEFT} -gt 0; then
            setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
            setenv tg_slot A
            setenv tg_trial tidegate.trial
        fi
    elif test ${slot} = B; then
        if test ${BOOT_B_LEFT} -eq 3; then
            setenv tg_slot B
        elif test ${BOOT_B_LEFT} -gt 0; then
            setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
            setenv tg_slot B
            setenv tg_trial tidegate.trial
        fi
    fi
done

# Written only when something changed: a good slot boots without a write.
if test -n "${tg_trial}" -o ${tg_ok} = 0; then
    env export -c -s ${tg_size} ${loadaddr} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
    nvme write ${loadaddr} ${tg_block} 1
fi

setenv tg_load_A 'setenv tg_slot A; setenv tg_root @ROOT_A@; load nvme 0:2 ${kernel_addr_r} Image && load nvme 0:2 ${loadaddr} uboot.args && env import -t ${loadaddr} ${filesize} tg_args'
setenv tg_load_B 'setenv tg_slot B; setenv tg_root @ROOT_B@; load nvme 0:3 ${kernel_addr_r} Image && load nvme 0:3 ${loadaddr} uboot.args && env import -t ${loadaddr} ${filesize} tg_args'
setenv tg_start 'echo Tidegate: slot ${tg_slot} ${tg_trial}; setenv bootargs root=PARTUUID=${tg_root} ro rootwait rauc.slot=${tg_slot} ${tg_trial} ${tg_args}; booti ${kernel_addr_r} - ${fdtcontroladdr}'

if test "${tg_slot}" = B; then
    run tg_load_B && run tg_start
    setenv tg_trial
    run tg_load_A && run tg_start
else
    # Slot A, or none has a try left: then what loads is better than a gateway that is off.
    run tg_load_A && run tg_start
    setenv tg_trial
    run tg_load_B && run tg_start
fi
echo Tidegate: neither slot can be loaded, trying again
sleep 5
reset
