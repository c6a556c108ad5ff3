//! Serial lines and GPIO lines of the guest.

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::machine::{BOOT_MAX, Image, Loss, Machine, Start};
use tidegate_tests::peers;

use crate::world::World;

/// pymodbus on the host answers through the second PL011: holding register a of unit 17 holds a * 3.
pub(crate) async fn modbus_rtu_polls_through_the_second_serial_port(image: Image) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    let bus = r#"[bus.plc]
driver = "modbus-rtu"
port = "/dev/ttyAMA1"
baud = 115200
parity = "none"
[device.meter]
bus = "plc"
unit = 17
timeout = "5s"
[[device.meter.poll]]
every = "1s"
tags.count0 = { holding = 7, type = "u16" }
"#;
    let config = world.config("1s");
    let before_bus = config.split("[bus.plc]").next().unwrap_or_default();
    card.configure(&format!("{before_bus}{bus}"))?;
    let machine = Machine::start(&card, &Start { rs485: true, ..Start::default() }).await?;
    let slave = peers::pymodbus(Some(&machine.rs485())).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let arrivals =
        world.office.wait_for("3 * 7", |all| all.iter().any(|one| one.value("count0") == Some(21))).await;
    arrivals.with_context(|| machine.console.tail())?;
    slave.stop().await?;
    machine.power_off().await
}

/// The chip that the image makes at boot ([its script](../../../qemu/overlay/usr/lib/tidegate-test/gpio)): the test sets its lines, and the user of
/// the gateway, in its sandbox, may open it.
pub(crate) async fn simulated_gpio_lines_follow_the_test_and_the_gateway_may_open_them(
    image: Image,
) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    // What follows asks the service manager over D-Bus, which is there when everything is.
    machine.console.wait("Startup finished", BOOT_MAX).await?;
    machine.shell.run("systemctl start test-gpio && udevadm settle").await?;
    let rights = machine.shell.run("stat -L -c '%G %a %F' /run/tidegate-test/gpiochip").await?;
    ensure!(rights.trim() == "gpio 660 character special file", "the chip belongs to {rights:?}");
    for (pull, value) in [("up", "1"), ("down", "0"), ("up", "1")] {
        let line = "/run/tidegate-test/lines/sim_gpio2";
        let read = machine.shell.run(&format!("echo pull-{pull} >{line}/pull && cat {line}/value")).await?;
        ensure!(read.trim() == value, "pulled {pull}, the line reads {read:?}");
    }
    let sandbox = "-p User=tidegate -p SupplementaryGroups=gpio -p DevicePolicy=closed";
    let open = "bash -c 'exec 3<>/run/tidegate-test/gpiochip'";
    let allowed =
        format!("systemd-run --quiet --wait --pipe {sandbox} -p 'DeviceAllow=char-gpiochip rw' {open}");
    machine.shell.run(&allowed).await.context("as the gateway's unit allows it")?;
    let refused = machine.shell.ask(&format!("systemd-run --quiet --wait --pipe {sandbox} {open}")).await?;
    ensure!(refused.code != 0, "without DeviceAllow the chip was opened all the same");
    machine.cut(Loss::Nothing).await?;
    Ok(())
}
