//! First boot: what lies on the FAT partition, and what lies there afterwards.

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::certs::{Authority, Validity};
use tidegate_tests::machine::{BOOT_MAX, Image, Machine, STEP_MAX, Start};

use crate::world::World;

/// A card without any file: a name from the hardware, no open port, and the console says what to do.
pub(crate) async fn an_unconfigured_card_boots_and_says_on_the_console_what_to_do(
    image: Image,
) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("gateway.toml", BOOT_MAX).await?;
    machine.console.wait("Started tidegate.service", BOOT_MAX).await?;
    let config = machine.shell.run("cat /etc/tidegate/gateway.toml").await?;
    ensure!(config.contains("id = \"tidegate-"), "no id of its own: {config}");
    let open = machine.shell.run("ss -Hltn | grep -v -e 127.0.0 -e '\\[::1\\]' || true").await?;
    ensure!(open.trim().is_empty(), "open ports: {open}");
    let passwords = machine.shell.run("grep -v '^[^:]*:[!*]' /etc/shadow || true").await?;
    ensure!(passwords.trim().is_empty(), "somebody has a password: {passwords}");
    machine.power_off().await
}

/// A wrong file is answered on the same partition; corrected, it is applied and its key is gone from where everybody can read it.
pub(crate) async fn a_wrong_file_is_answered_on_the_card_and_a_right_one_is_applied(
    image: Image,
) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    card.drop_file(
        "gateway.toml",
        world.config("1s").replace("driver = \"modbus-tcp\"", "driver = \"modbos-tcp\"").as_bytes(),
    )?;
    let machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("Started tidegate.service", BOOT_MAX).await?;
    machine.power_off().await?;
    let said = card.dropped("gateway-errors.txt")?.context("no gateway-errors.txt")?;
    ensure!(
        said.contains("modbos-tcp") && said.contains("gateway.toml"),
        "it does not say what is wrong: {said}"
    );

    let authority = Authority::new("plant ca")?;
    let lan = authority.server(&["gw.local"], Validity::Good)?;
    let door = "cert = \"lan.pem\"\nkey = \"lan.key\"";
    card.drop_file("gateway.toml", world.config("1s").replace("allow_plain = true", door).as_bytes())?;
    card.drop_file("lan.pem", &std::fs::read(&lan.cert)?)?;
    card.drop_file("lan.key", &std::fs::read(&lan.key)?)?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let arrivals =
        world.office.wait_for("a reading", |all| all.iter().any(|one| one.value("count0").is_some())).await;
    arrivals.with_context(|| machine.console.tail())?;
    let mode = machine.shell.run("stat -L -c '%a %U:%G' /etc/tidegate/gateway.toml").await?;
    ensure!(mode.trim() == "640 root:tidegate", "gateway.toml is {mode}");
    let mode = machine.shell.run("stat -L -c '%a %U:%G' /etc/tidegate/keys/lan.key").await?;
    ensure!(mode.trim() == "600 root:root", "its key is {mode}");
    let writable = machine.shell.ask("touch /etc/tidegate/x").await?;
    ensure!(writable.code != 0, "the configuration can be written");
    machine.power_off().await?;
    let names = card.drop_names()?;
    for gone in ["gateway-errors.txt", "gateway.toml", "lan.key"] {
        ensure!(
            !names.iter().any(|name| name.eq_ignore_ascii_case(gone)),
            "{gone} is still there: {names:?}"
        );
    }
    Ok(())
}

/// The journal, the watchdog and reload, all in one boot.
pub(crate) async fn a_gateway_that_hangs_is_started_again_and_a_changed_file_is_reloaded(
    image: Image,
) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let fields = machine
        .shell
        .run("journalctl -u tidegate -o json --no-pager | grep -c '\"UPLINK\":\"cloud\"'")
        .await?;
    ensure!(fields.trim() != "0", "the journal has no field UPLINK");

    let mark = machine.console.mark();
    let change = "mount -o remount,rw /etc/tidegate && sed -i 's/^every = .*/every = \"2s\"/' /etc/tidegate/gateway.toml \
                  && mount -o remount,ro /etc/tidegate && systemctl reload tidegate";
    machine.shell.run(change).await?;
    machine.console.wait_after(mark, "Reloaded tidegate.service", STEP_MAX).await?;
    let restarts = machine.shell.run("systemctl show -P NRestarts tidegate").await?;
    ensure!(restarts.trim() == "0", "reload restarted the gateway");

    let mark = machine.console.mark();
    machine.shell.run("kill -STOP $(systemctl show -P MainPID tidegate)").await?;
    machine.console.wait_after(mark, "Watchdog timeout", STEP_MAX).await?;
    machine.console.wait_after(mark, "uplink cloud: connected", STEP_MAX).await?;
    machine.power_off().await
}
