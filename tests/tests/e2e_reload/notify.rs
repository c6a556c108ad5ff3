//! What systemd hears of a reload ("sd_notify(3)").

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_tests::gateway::{DEADLINE, Gateway};

const CONFIG: &str = "[bus.line]\ndriver = \"sim\"\n[device.meter]\nbus = \"line\"\nunit = 1\n[[device.meter.poll]]\nevery = \"1s\"\ntags.a = { holding = 0, type = \"u16\" }\n";

/// The next word that is no everyday one.
fn next(socket: &UnixDatagram) -> Result<String> {
    let end = Instant::now() + DEADLINE;
    let mut buffer = [0; 4096];
    loop {
        ensure!(Instant::now() < end, "no word");
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        if !text.starts_with("STATUS=") && text != "WATCHDOG=1" {
            return Ok(text);
        }
    }
}

fn micros(word: &str) -> Result<u64> {
    let Some(("RELOADING=1", moment)) = word.split_once('\n') else { anyhow::bail!("{word:?}") };
    Ok(moment.strip_prefix("MONOTONIC_USEC=").unwrap_or_default().parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_hears_the_beginning_and_the_end_of_a_reload_and_of_a_refusal() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().display();
    let config = format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{place}/control.sock\"\n[store]\npath = \"{place}/q.db\"\n{CONFIG}"
    );
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut gateway = Gateway::start_with(dir.path(), &config, &[("NOTIFY_SOCKET", path.as_os_str())])?;
    ensure!(next(&socket)? == "READY=1");
    let begun = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let begun = Duration::new(u64::try_from(begun.tv_sec)?, u32::try_from(begun.tv_nsec)?);
    gateway.reload(&config.replace("1s", "2s")).await?;
    ensure!(u128::from(micros(&next(&socket)?)?) >= begun.as_micros(), "a moment of the past");
    ensure!(next(&socket)? == "READY=1\nSTATUS=the changed configuration is in force");
    gateway.reload(&config.replace("1s", "never")).await?;
    micros(&next(&socket)?)?;
    let end = next(&socket)?;
    ensure!(end.starts_with("READY=1\nSTATUS=the changed configuration is refused (1 problem"), "{end:?}");
    gateway.stop().await?;
    ensure!(next(&socket)? == "STOPPING=1");
    Ok(())
}
