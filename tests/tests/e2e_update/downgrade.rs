//! An older version comes back only where root at the machine says so.

use anyhow::{Context as _, Result, ensure};
use gateway_core::update::reason::Reason;
use gateway_core::update::record::Last;
use gateway_core::update::wire::{Reply, Request, State, Status};
use tidegate_tests::workshop::Workshop;

use super::agent::{install, refusal, replies};
use super::said;

/// A machine on which version 1.5 runs.
async fn with_version(running: &str) -> Result<Workshop> {
    let workshop = Workshop::start().await?;
    workshop.runs(running)?;
    workshop.slots("rootfs.0", "rootfs.0")?;
    Ok(workshop)
}

fn installations(workshop: &Workshop) -> usize {
    workshop.calls().lines().filter(|call| call.starts_with("install")).count()
}

#[tokio::test]
async fn an_older_version_is_refused_before_anything_is_written() -> Result<()> {
    let workshop = with_version("1.5").await?;
    workshop.says_version("1.4")?;
    let (code, text) = said(&workshop.run(&["update", "update.raucb"]).await?);
    assert_eq!(code, Some(1), "{text}");
    for part in ["downgrade", "version 1.4, and 1.5 ran here", "--allow-downgrade"] {
        ensure!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(installations(&workshop), 0);
    let status = workshop.status().await?;
    assert_eq!((status.state, status.reason), (State::Failed, Some(Reason::Downgrade)));
    Ok(())
}

#[tokio::test]
async fn the_same_and_newer_versions_are_installed() -> Result<()> {
    for version in ["1.5", "1.5.1", "1.10"] {
        let workshop = with_version("1.5").await?;
        workshop.says_version(version)?;
        workshop.bundle_in_slots(version)?;
        let replies = replies(&workshop, &install("https://example.com/x", None)).await?;
        ensure!(matches!(replies.last(), Some(Reply::Done { .. })), "{version}: {replies:?}");
    }
    Ok(())
}

/// A server may show a new bundle first and give an old one then: both have a right signature.
#[tokio::test]
async fn an_older_version_behind_a_newer_face_does_not_become_the_one_that_starts() -> Result<()> {
    let workshop = with_version("1.5").await?;
    workshop.says_version("1.6")?;
    workshop.bundle_in_slots("1.2")?;
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Downgrade);
    let calls = workshop.calls();
    ensure!(calls.lines().any(|call| call == "status mark-active booted"), "{calls}");
    ensure!(!workshop.path("reboots").exists());
    assert_eq!(workshop.folder().trial()?, None);
    Ok(())
}

/// A ran, B after it and passed, and the boot loader is back at A: what is older than B stays out.
#[tokio::test]
async fn after_a_b_a_the_newest_that_passed_counts() -> Result<()> {
    let workshop = with_version("1.0").await?;
    workshop.folder().set_passed(Some("2.0".into()))?;
    workshop.bundle_in_slots("1.5")?;
    for known in [Some("1.5"), None] {
        match known {
            Some(version) => workshop.says_version(version)?,
            None => workshop.says_no_version()?,
        }
        assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Downgrade);
    }
    workshop.says_version("2.0")?;
    workshop.bundle_in_slots("2.0")?;
    let replies = replies(&workshop, &install("https://example.com/x", None)).await?;
    ensure!(matches!(replies.last(), Some(Reply::Done { .. })), "{replies:?}");
    Ok(())
}

type Break = fn(&Workshop) -> Result<()>;

/// Each takes away what the guard against older versions goes by.
const BREAKS: [(&str, &str, Break); 9] = [
    ("history.json", "an empty file", |at| at.own("state/history.json", "")),
    ("history.json", "a cut file", |at| at.own("state/history.json", r#"{"version":"2."#)),
    ("history.json", "a file of somebody else's", |at| at.own("state/history.json", "{}")),
    ("history.json", "a folder", |at| Ok(std::fs::create_dir(at.path("state/history.json"))?)),
    ("os-release", "no file", |at| Ok(std::fs::remove_file(at.path("os-release"))?)),
    ("os-release", "an empty file", |at| at.own("os-release", "")),
    ("os-release", "a folder", |at| {
        std::fs::remove_file(at.path("os-release"))?;
        Ok(std::fs::create_dir(at.path("os-release"))?)
    }),
    ("says no version of its own", "no version", |at| at.own("os-release", "NAME=Debian\n")),
    ("cannot be compared", "a version that is none", |at| at.runs("latest")),
];

#[tokio::test]
async fn where_it_is_not_known_what_ran_nothing_is_installed_but_by_roots_word() -> Result<()> {
    for (named, what, take_away) in BREAKS {
        let workshop = with_version("1.5").await?;
        workshop.says_version("9.9")?;
        workshop.bundle_in_slots("9.9")?;
        std::fs::create_dir_all(workshop.path("state"))?;
        take_away(&workshop)?;
        let (code, text) = said(&workshop.run(&["update", "--no-reboot", "update.raucb"]).await?);
        assert_eq!(code, Some(1), "{named}: {what}: {text}");
        for part in ["error: downgrade: ", named, "update --allow-downgrade FILE as root"] {
            ensure!(text.contains(part), "{named}: {what}: {part} is not in {text}");
        }
        assert_eq!(installations(&workshop), 0, "{named}: {what}");
        let (code, text) =
            said(&workshop.run(&["update", "--no-reboot", "--allow-downgrade", "update.raucb"]).await?);
        assert_eq!((code, installations(&workshop)), (Some(0), 1), "{named}: {what}: {text}");
    }
    Ok(())
}

/// The bundle is not looked at before: what is known when it is written counts.
#[tokio::test]
async fn a_history_that_breaks_while_an_update_is_written_has_it_taken_back() -> Result<()> {
    let workshop = with_version("1.5").await?;
    workshop.bundle_in_slots("1.6")?;
    workshop
        .install("mkdir -p \"$HERE/state\"\n: >\"$HERE/state/history.json\"\necho '100% Installing done.'")?;
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Downgrade);
    let calls = workshop.calls();
    ensure!(calls.lines().any(|call| call == "status mark-active booted"), "{calls}");
    Ok(())
}

/// A cloud that sends its commands A and B, and then A again.
#[tokio::test]
async fn a_command_that_was_carried_out_before_the_last_one_is_not_carried_out_again() -> Result<()> {
    let workshop = with_version("1.0").await?;
    for key in ["A", "B"] {
        workshop.folder().settle(&Last { status: Status::of(State::Good), key: Some(key.into()) })?;
    }
    assert_eq!(refusal(&workshop, &install("https://example.com/x", Some("A"))).await?, Reason::AlreadyDone);
    assert_eq!(installations(&workshop), 0);
    Ok(())
}

#[tokio::test]
async fn root_at_the_machine_may_go_back_and_older_ones_follow_from_there() -> Result<()> {
    let workshop = with_version("1.5").await?;
    workshop.says_version("1.4")?;
    workshop.bundle_in_slots("1.4")?;
    let (code, text) =
        said(&workshop.run(&["update", "--no-reboot", "--allow-downgrade", "update.raucb"]).await?);
    assert_eq!(code, Some(0), "{text}");
    // The next boot runs it, it passes its test, and is what counts from here on.
    let trial = workshop.folder().trial()?.context("a record")?;
    workshop.folder().set_trial(&gateway_core::update::record::Trial { boot: "before".into(), ..trial })?;
    workshop.runs("1.4")?;
    let os_release = workshop.path("os-release").display().to_string();
    let (code, text) = said(&workshop.run(&["health", "--passed", "--os-release", &os_release]).await?);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(workshop.folder().history()?.version.as_deref(), Some("1.4"));
    workshop.slots("rootfs.0", "rootfs.0")?;
    workshop.says_version("1.3")?;
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Downgrade);
    Ok(())
}

/// The socket lets the group in; the word of root is root's alone.
#[tokio::test]
async fn who_is_not_root_may_not_go_back() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        // Without root there is nobody else to be.
        return Ok(());
    }
    let workshop = with_version("1.5").await?;
    workshop.says_version("1.4")?;
    let request = Request::Install {
        source: workshop.path("update.raucb").display().to_string(),
        reboot: false,
        key: None,
        downgrade: true,
    };
    let line = format!("{}\n", serde_json::to_string(&request)?);
    workshop.open_to_all()?;
    let program = "$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print $s $ARGV[1]; print <$s>";
    let asked = tokio::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "perl",
            "-MIO::Socket::UNIX",
            "-e",
            program,
        ])
        .arg(workshop.socket())
        .arg(line)
        .output()
        .await?;
    let (_, text) = said(&asked);
    ensure!(text.contains(r#""reason":"downgrade""#), "{text}");
    assert_eq!(installations(&workshop), 0);
    Ok(())
}

#[tokio::test]
async fn the_agent_refuses_http_unless_a_file_of_root_allows_it() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let workshop = Workshop::start().await?;
    let plain = install("http://example.com/x", None);
    assert_eq!(refusal(&workshop, &plain).await?, Reason::BadSource);
    let config = workshop.path("gateway.toml");
    std::fs::write(&config, "[update]\nallow_http = true\n")?;
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o666))?;
    assert_eq!(refusal(&workshop, &plain).await?, Reason::BadSource, "others can write the file");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o640))?;
    let replies = replies(&workshop, &plain).await?;
    ensure!(matches!(replies.last(), Some(Reply::Done { .. })), "{replies:?}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_others_can_write_is_copied_before_rauc_sees_it() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let workshop = Workshop::start().await?;
    let bundle = workshop.path("update.raucb");
    std::fs::set_permissions(&bundle, std::fs::Permissions::from_mode(0o666))?;
    workshop.install("cat \"$2\" >\"$HERE/seen\"\necho '100% Installing done.'")?;
    let (code, text) = said(&workshop.run(&["update", "--no-reboot", "update.raucb"]).await?);
    assert_eq!(code, Some(0), "{text}");
    let copy = workshop.path("state").join("bundle.raucb");
    let calls = workshop.calls();
    ensure!(calls.lines().any(|call| call == format!("install {}", copy.display())), "{calls}");
    assert_eq!(std::fs::read_to_string(workshop.path("seen"))?, "a bundle");
    ensure!(!copy.exists(), "the copy is gone with the installation");
    Ok(())
}
