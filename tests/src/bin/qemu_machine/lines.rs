//! Serial lines and GPIO lines of the guest.

use anyhow::{Context as _, Result};
use tidegate_tests::machine::{BOOT_MAX, Image, Machine, Start};
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

/// Simulated GPIO lines, for the driver to come; the kernel of the update tests has none.
pub(crate) async fn simulated_gpio_lines_are_there_where_the_kernel_has_them(image: Image) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    let said =
        machine.shell.ask("modprobe gpio-sim && modprobe configfs && ls /sys/kernel/config/gpio-sim").await?;
    if said.code != 0 {
        let kernel = machine.shell.run("uname -r").await?;
        println!("  SKIPPED: {} has no gpio-sim: {}", kernel.trim(), said.text.trim());
        machine.cut(tidegate_tests::machine::Loss::Nothing).await?;
        return Ok(());
    }
    let make = "cd /sys/kernel/config/gpio-sim && mkdir -p t/bank0 && echo 8 >t/bank0/num_lines && echo 1 >t/live && cat t/bank0/chip_name";
    let chip = machine.shell.run(make).await?;
    machine.shell.run(&format!("test -c /dev/{}", chip.trim())).await?;
    machine.cut(tidegate_tests::machine::Loss::Nothing).await?;
    Ok(())
}
