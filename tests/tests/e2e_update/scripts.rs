//! The scripts that act on the verdict, with pretended programs around them.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, Result};
use gateway_core::update::record::Trial;
use gateway_core::update::wire::State;
use gateway_daemon::update::boot_id;
use tidegate_tests::workshop::Workshop;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/lib").join(name)
}

/// Runs a script as its unit does: the pretended programs first in PATH, the records in the workshop.
fn run(workshop: &Workshop, name: &str, args: &[&str]) -> Result<Output> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = std::process::Command::new(script(name));
    command.args(args).env("PATH", format!("{}:{path}", workshop.path("bin").display()));
    Ok(command.env("TIDEGATE_UPDATE_DIR", workshop.path("state")).output()?)
}

#[test]
fn the_health_check_is_needed_while_an_outcome_is_open_or_has_to_be_said() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    let needed = || Ok::<_, anyhow::Error>(run(&workshop, "mark-good", &["--needed"])?.status.success());
    assert!(!needed()?);
    super::health::on_trial(&workshop, true)?;
    assert!(needed()?);
    workshop.folder().settle(&Default::default())?;
    assert!(!needed()?);
    workshop.folder().set_why_back("bus line: silent")?;
    assert!(needed()?);
    assert_eq!(workshop.calls(), "");
    Ok(())
}

/// RAUC installs it meanwhile, and what runs is what ran before.
#[test]
fn the_health_check_is_not_needed_for_an_update_that_was_begun_in_this_boot() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    super::health::on_trial(&workshop, true)?;
    let trial = workshop.folder().trial()?.context("it was just written")?;
    workshop.folder().set_trial(&Trial { boot: boot_id()?, ..trial })?;
    assert!(!run(&workshop, "mark-good", &["--needed"])?.status.success());
    assert_eq!(workshop.calls(), "");
    Ok(())
}

#[test]
fn a_good_system_is_marked_before_the_outcome_is_written_down() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    workshop.program("gateway-daemon", "echo \"daemon $*\" >>\"$HERE/calls\"")?;
    assert!(run(&workshop, "mark-good", &[])?.status.success());
    assert_eq!(workshop.calls(), "status mark-good\ndaemon health --passed\n");
    // A mark that fails leaves the trial open.
    workshop.program("rauc", "exit 1")?;
    std::fs::remove_file(workshop.path("calls"))?;
    assert!(!run(&workshop, "mark-good", &[])?.status.success());
    assert_eq!(workshop.calls(), "");
    Ok(())
}

#[test]
fn a_system_that_has_to_go_leaves_its_journal_and_the_reason_is_marked_bad_and_restarts() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    super::health::on_trial(&workshop, true)?;
    workshop.folder().set_why_back("bus line: silent")?;
    // More than is kept.
    workshop.program("journalctl", "head -c 3000000 /dev/zero | tr '\\0' x; echo the end")?;
    for number in 0..6 {
        std::fs::write(workshop.path("state").join(format!("journal-old{number}.txt")), "old")?;
    }
    let output = run(&workshop, "roll-back", &[])?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(workshop.calls(), "status mark-bad\n");
    assert_eq!(std::fs::read_to_string(workshop.path("reboots"))?, "reboot\n");
    assert_eq!(workshop.folder().why_back().as_deref(), Some("bus line: silent"));
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(workshop.path("state"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "txt") {
            journals.push(std::fs::read(path)?);
        }
    }
    assert_eq!(journals.len(), 4);
    let kept = journals.iter().find(|journal| journal.ends_with(b"the end\n")).map(Vec::len);
    assert_eq!(kept, Some(1 << 20));
    Ok(())
}

#[tokio::test]
async fn going_back_comes_to_its_reboot_whatever_fails_and_the_old_system_has_a_reason_to_tell() -> Result<()>
{
    let workshop = Workshop::without_agent()?;
    super::health::on_trial(&workshop, true)?;
    workshop.program("journalctl", "exit 1")?;
    workshop.program("rauc", "if [ \"$2\" = mark-bad ]; then exit 1; fi\ncat \"$HERE/slots\"")?;
    assert!(run(&workshop, "roll-back", &[])?.status.success());
    assert_eq!(std::fs::read_to_string(workshop.path("reboots"))?, "reboot\n");
    workshop.slots("rootfs.0", "rootfs.0")?;
    workshop.run(&["health"]).await?;
    let last = workshop.folder().last()?.unwrap_or_default();
    assert_eq!(last.status.state, State::RolledBack);
    assert!(last.status.text.is_some_and(|text| text.contains("without a verdict")));
    Ok(())
}
