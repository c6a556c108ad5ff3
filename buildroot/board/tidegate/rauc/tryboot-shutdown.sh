#!/bin/sh
# Run by systemd-shutdown as its last step but one, with what it is about to do: a restart into a slot on trial needs the firmware's flag.
# Here and not when the update is installed, because `systemctl reboot` removes a reboot argument that it was not given itself.
[ "${1:-}" = reboot ] || exit 0
exec /usr/lib/tidegate/rauc-tryboot arm
