//! Faults of the machine below: from a file of the system to the cloud.

use anyhow::{Result, ensure};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::office::Arrival;

use super::{PLAIN, Plant};

/// The faults of the births so far.
fn births(all: &[Arrival]) -> Vec<Option<String>> {
    let births =
        all.iter().filter(|arrival| arrival.json.get("state").is_some_and(|state| state == "online"));
    births.map(|birth| birth.json.get("faults").map(ToString::to_string)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_machine_is_told_everywhere_when_it_comes_and_when_it_goes() -> Result<()> {
    let plant = Plant::new().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("data-partition"), "the data partition was made anew\n")?;
    let variables = [("TIDEGATE_FAULTS_DIR", folder.path().as_os_str())];
    let mut gateway = Gateway::start_with(plant.dir.path(), &plant.config(PLAIN), &variables)?;
    let now = gateway.wait_for("the fault", |now| !now.faults.is_empty()).await?;
    ensure!(now.faults["data-partition"] == "the data partition was made anew", "{now:?}");
    let first = r#"{"data-partition":"the data partition was made anew"}"#;
    plant.office.wait_for("a birth with it", |all| births(all) == [Some(first.to_owned())]).await?;
    std::fs::write(folder.path().join("provision"), "line 3: \x1b[31mno such key\n")?;
    gateway.wait_for("the second fault", |now| now.faults.len() == 2).await?;
    std::fs::remove_file(folder.path().join("provision"))?;
    std::fs::remove_file(folder.path().join("data-partition"))?;
    gateway.wait_for("the end of both", |now| now.faults.is_empty()).await?;
    let all = plant.office.wait_for("a birth without", |all| births(all).len() == 3).await?;
    ensure!(births(&all)[2].is_none() && plant.network.accepted() == 1, "{:?}", births(&all));
    let log = gateway.log();
    for line in [
        "fault data-partition: the data partition was made anew",
        "fault data-partition: gone",
        "fault provision: line 3: [31mno such key",
    ] {
        ensure!(log.contains(line), "{line}: {log}");
    }
    gateway.stop().await
}
