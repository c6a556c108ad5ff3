//! As many buses as a gateway may have: a site of Modbus TCP devices, each on a connection of its own.

use gateway_daemon::app::snapshot::Health;
use tidegate_tests::fast_device::FastDevice;
use tidegate_tests::gateway::Gateway;

use crate::{dead_port, head};

/// Descriptors and threads of a process.
fn counts(pid: u32) -> (usize, usize) {
    let entries = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    (entries("fd"), entries("task"))
}

/// A bus for each device, ten registers a second.
fn site(devices: &[FastDevice]) -> String {
    let mut text = String::new();
    for (number, device) in devices.iter().enumerate() {
        text += &format!(
            "[bus.b{number}]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {}\n\
             [device.d{number}]\nbus = \"b{number}\"\nunit = 1\n[[device.d{number}.poll]]\nevery = \"1s\"\n",
            device.port
        );
        for register in 0..10 {
            text += &format!("tags.t{register} = {{ holding = {register}, type = \"u16\" }}\n");
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_buses_poll_with_two_descriptors_each_and_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut devices = Vec::new();
    for _ in 0..256 {
        devices.push(FastDevice::start().await.unwrap());
    }
    let mut before = (0, 0);
    for buses in [1, 64, 128, 256] {
        let config = head(dir.path(), dead_port()) + &site(&devices[..buses]);
        let mut gateway = Gateway::start(dir.path(), &config).unwrap();
        let polled = gateway
            .wait_for("a good reading of every device", |now| {
                now.devices.len() == buses && now.devices.iter().all(|device| device.health == Health::Good)
            })
            .await
            .unwrap();
        assert_eq!(polled.buses.len(), buses);
        let (descriptors, threads) = counts(gateway.pid());
        let memory = gateway.rss_anon_kib().unwrap();
        eprintln!("{buses} buses: {memory} KiB RssAnon, {descriptors} descriptors, {threads} threads");
        if buses == 1 {
            before = (descriptors, threads);
        }
        // A timer and a connection for each; the store and look-ups of names have threads, whatever the number of buses.
        assert!(
            descriptors <= before.0 + 2 * (buses - 1) + 4,
            "{descriptors} descriptors with {buses} buses"
        );
        assert!(threads <= before.1 + 4, "{threads} threads with {buses} buses");
        gateway.stop().await.unwrap();
    }
}
