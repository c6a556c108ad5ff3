//! Installing: by file, by URL, and everything that can go wrong with it.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use gateway_core::update::reason::Reason;
use gateway_core::update::wire::{LINE_BYTES_MAX, Reply, Request, State};
use gateway_daemon::update::Client;
use tidegate_tests::gateway::{Gateway, binary};
use tidegate_tests::workshop::Workshop;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::said;

pub(super) fn install(source: &str, key: Option<&str>) -> Request {
    Request::Install { source: source.into(), reboot: false, key: key.map(str::to_owned), downgrade: false }
}

/// Everything that the agent says to one request.
pub(super) async fn replies(workshop: &Workshop, request: &Request) -> Result<Vec<Reply>> {
    let mut client = Client::ask(&workshop.socket(), request).await?;
    let mut replies = Vec::new();
    loop {
        let reply = client.reply().await?;
        let last = !matches!(reply, Reply::Taken {} | Reply::Progress { .. });
        replies.push(reply);
        if last {
            return Ok(replies);
        }
    }
}

pub(super) async fn refusal(workshop: &Workshop, request: &Request) -> Result<Reason> {
    match replies(workshop, request).await?.pop() {
        Some(Reply::Failed(failure)) => Ok(failure.reason),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_installed_with_its_progress_and_the_system_starts_again() -> Result<()> {
    let workshop = Workshop::start().await?;
    workshop.install(
        "echo '  0% Installing'\necho ' 20% Checking bundle'\necho 'noise'\necho '100% Installing done.'",
    )?;
    workshop.slots("rootfs.0", "rootfs.1")?;
    let (code, text) = said(&workshop.run(&["update", "update.raucb"]).await?);
    assert_eq!(code, Some(0), "{text}");
    for part in
        ["20 %  Checking bundle", "100 %  Installing done.", "version 1.2 is installed", "starting again"]
    {
        ensure!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(workshop.written("reboots").await?, "reboot\n");
    let bundle = workshop.path("update.raucb");
    ensure!(workshop.calls().lines().any(|call| call == format!("install {}", bundle.display())));
    assert_eq!(workshop.status().await?.state, State::Rebooting);
    Ok(())
}

#[tokio::test]
async fn without_a_reboot_the_update_waits_for_the_next_one() -> Result<()> {
    let workshop = Workshop::start().await?;
    let (code, text) = said(&workshop.run(&["update", "--no-reboot", "https://example.com/x.raucb"]).await?);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&workshop.run(&["update"]).await?);
    assert_eq!(
        (code, text.lines().next()),
        (Some(0), Some("installed: an update is installed and starts with the next boot (version 1.2)"))
    );
    ensure!(!workshop.path("reboots").exists());
    Ok(())
}

#[tokio::test]
async fn each_way_to_fail_has_its_word_and_leaves_the_running_system_as_it_is() -> Result<()> {
    let workshop = Workshop::start().await?;
    for (words, reason) in [
        ("signature verification failed: Verify error: self-signed certificate", "bad-signature"),
        ("Compatible mismatch: Expected 'tidegate-rpi64' but bundle manifest has 'other'", "wrong-board"),
        ("Failed updating slot rootfs.1: No space left on device", "no-space"),
        ("Signature size (99) exceeds bundle size", "not-a-bundle"),
        ("Failed to stream bundle: not found: 404", "download-failed"),
        ("RAUC service disappeared", "interrupted"),
        ("Already processing a different method", "busy"),
        ("what nobody has seen before", "other"),
    ] {
        workshop.install(&format!("echo '  0% Installing'\necho \"LastError: {words}\"\nexit 1"))?;
        let (code, text) = said(&workshop.run(&["update", "update.raucb"]).await?);
        assert_eq!(code, Some(1), "{text}");
        ensure!(text.contains(&format!("error: {reason}: ")) && text.contains(words), "{text}");
        assert_eq!(workshop.folder().trial()?, None);
        let status = workshop.status().await?;
        assert_eq!((status.state, status.reason.map(Reason::word)), (State::Failed, Some(reason)));
    }
    ensure!(!workshop.path("reboots").exists());
    Ok(())
}

#[tokio::test]
async fn a_killed_rauc_was_interrupted() -> Result<()> {
    let workshop = Workshop::start().await?;
    workshop.install("kill -9 $$")?;
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Interrupted);
    Ok(())
}

#[tokio::test]
async fn what_worked_before_is_on_disk_before_anything_is_written() -> Result<()> {
    let workshop = Workshop::start().await?;
    let mut gateway = Gateway::start(workshop.dir(), super::health::SIMULATED)?;
    gateway.wait_for("an answer", super::health::polls).await?;
    workshop.install("{ cat \"$HERE/state/before.json\"; echo; } >\"$HERE/seen\"")?;
    let replies = replies(&workshop, &install("https://example.com/x", Some("42"))).await?;
    assert_eq!(replies, [Reply::Taken {}, Reply::Done { version: Some("1.2".into()), reboot: false }]);
    let seen = workshop.written("seen").await?;
    ensure!(
        seen.contains(r#""buses":{"line":["boiler"]}"#) && seen.contains(r#""installed":false"#),
        "{seen}"
    );
    let trial = workshop.folder().trial()?.context("a record")?;
    assert_eq!((trial.installed, trial.slot.as_str(), trial.key.as_deref()), (true, "rootfs.0", Some("42")));
    Ok(())
}

#[tokio::test]
async fn a_second_client_is_told_that_one_is_at_work() -> Result<()> {
    let workshop = Workshop::start().await?;
    workshop.install_slowly("echo '100% Installing done.'")?;
    let mut first = Client::ask(&workshop.socket(), &install("https://example.com/x", Some("1"))).await?;
    assert_eq!(first.reply().await?, Reply::Taken {});
    workshop.appears("installing").await?;
    assert_eq!(refusal(&workshop, &install("https://example.com/y", Some("2"))).await?, Reason::Busy);
    // The same command once more is the one that is being carried out.
    assert_eq!(refusal(&workshop, &install("https://example.com/x", Some("1"))).await?, Reason::AlreadyDone);
    let status = workshop.status().await?;
    assert_eq!(
        (status.state, status.percent, status.id.as_deref()),
        (State::Installing, Some(40), Some("1"))
    );
    workshop.go().await?;
    assert!(matches!(first.reply().await?, Reply::Progress { percent: 40, .. }));
    assert!(matches!(first.reply().await?, Reply::Progress { percent: 100, .. }));
    assert!(matches!(first.reply().await?, Reply::Done { .. }));
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_the_installation() -> Result<()> {
    let workshop = Workshop::start().await?;
    workshop.install_slowly("echo '100% Installing done.'\n: >\"$HERE/done\"")?;
    let client = Client::ask(&workshop.socket(), &install("https://example.com/x", None)).await?;
    workshop.appears("installing").await?;
    drop(client);
    workshop.go().await?;
    workshop.appears("done").await?;
    let end = tokio::time::Instant::now() + tidegate_tests::gateway::DEADLINE;
    while workshop.status().await?.state != State::Installed {
        ensure!(tokio::time::Instant::now() < end, "never installed");
    }
    Ok(())
}

/// RAUC marks the slot bad before it writes, and good and first only when all of it is written: what starts next says what came of it.
#[tokio::test]
async fn an_agent_that_was_killed_in_the_middle_finds_out_what_came_of_it() -> Result<()> {
    for (primary, expected) in [("rootfs.0", State::Failed), ("rootfs.1", State::Installed)] {
        let mut workshop = Workshop::start().await?;
        workshop.install_slowly("exit 1")?;
        let _client = Client::ask(&workshop.socket(), &install("https://example.com/x", Some("42"))).await?;
        workshop.appears("installing").await?;
        workshop.kill_agent()?;
        workshop.slots("rootfs.0", primary)?;
        workshop.start_agent().await?;
        let status = workshop.status().await?;
        assert_eq!((status.state, status.id.as_deref()), (expected, Some("42")));
        workshop.go().await?;
    }
    Ok(())
}

#[tokio::test]
async fn while_rauc_does_not_say_what_came_of_it_nothing_else_is_installed() -> Result<()> {
    let mut workshop = Workshop::start().await?;
    workshop.install_slowly("exit 1")?;
    let _client = Client::ask(&workshop.socket(), &install("https://example.com/x", None)).await?;
    workshop.appears("installing").await?;
    workshop.kill_agent()?;
    std::fs::write(workshop.path("slots"), "Error: already processing a different method")?;
    workshop.start_agent().await?;
    assert_eq!(workshop.status().await?.state, State::Installing);
    assert_eq!(refusal(&workshop, &install("https://example.com/y", None)).await?, Reason::Busy);
    workshop.go().await
}

#[tokio::test]
async fn a_command_with_the_id_of_the_last_one_is_not_carried_out_again() -> Result<()> {
    let workshop = Workshop::start().await?;
    let command = install("https://example.com/x", Some("42"));
    replies(&workshop, &command).await?;
    assert_eq!(refusal(&workshop, &command).await?, Reason::AlreadyDone);
    assert_eq!(workshop.calls().lines().filter(|call| call.starts_with("install")).count(), 1);
    // One that failed has changed nothing.
    workshop.install("exit 1")?;
    let failing = install("https://example.com/x", Some("43"));
    for _ in 0..2 {
        assert_eq!(refusal(&workshop, &failing).await?, Reason::Other);
    }
    Ok(())
}

#[tokio::test]
async fn the_system_that_is_known_to_work_is_not_overwritten_while_the_updated_one_is_on_trial() -> Result<()>
{
    let workshop = Workshop::start().await?;
    super::health::on_trial(&workshop, true)?;
    assert_eq!(workshop.status().await?.state, State::Testing);
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Testing);
    ensure!(!workshop.calls().contains("install"));
    Ok(())
}

#[tokio::test]
async fn nothing_but_a_path_or_a_url_reaches_rauc() -> Result<()> {
    let workshop = Workshop::start().await?;
    let folder = workshop.dir().display().to_string();
    for source in [
        "--ignore-compatible",
        "-",
        "",
        "update.raucb",
        "ftp://h/x",
        "https://",
        "https://u:p@h/x",
        "/a\nb",
        "/nowhere",
        &folder,
    ] {
        assert_eq!(refusal(&workshop, &install(source, None)).await?, Reason::BadSource, "{source:?}");
    }
    ensure!(!workshop.calls().contains("install"), "{}", workshop.calls());
    Ok(())
}

#[tokio::test]
async fn hostile_lines_are_refused_and_others_are_served() -> Result<()> {
    let workshop = Workshop::start().await?;
    for line in [
        &b"\n"[..],
        b"{}\n",
        b"\xff\xfe\0\n",
        b"{\"do\":\"install\",\"source\":\"/a\",\"more\":1}\n",
        b"[[[[[[[[\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut stream = UnixStream::connect(workshop.socket()).await?;
        stream.write_all(line).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with(r#"{"failed":{"reason":"bad-command""#), "{answer}");
    }
    // One that never ends its line holds a place, and no memory beyond a line.
    let mut endless = UnixStream::connect(workshop.socket()).await?;
    endless.write_all(&vec![b'x'; LINE_BYTES_MAX * 4]).await?;
    // Silent ones hold places until there are none, and then others are told.
    let mut silent = Vec::new();
    let told = loop {
        ensure!(silent.len() < 50, "nobody was turned away");
        silent.push(UnixStream::connect(workshop.socket()).await?);
        if let Ok(Reply::Failed(failure)) =
            Client::ask(&workshop.socket(), &Request::Status).await?.reply().await
        {
            break failure;
        }
    };
    assert_eq!(told.reason, Reason::Busy);
    drop((endless, silent));
    let end = tokio::time::Instant::now() + tidegate_tests::gateway::DEADLINE;
    while workshop.status().await.is_err() {
        ensure!(tokio::time::Instant::now() < end, "never served again");
    }
    Ok(())
}

#[tokio::test]
async fn without_an_agent_the_command_says_so() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    let (code, text) = said(&workshop.run(&["update", "update.raucb"]).await?);
    assert_eq!(code, Some(69));
    ensure!(
        text.starts_with("error: no update agent behind ") && text.contains("tidegate-update.socket"),
        "{text}"
    );
    let (code, text) = said(&workshop.run(&["update", "ftp://h/x"]).await?);
    assert_eq!(code, Some(1), "{text}");
    Ok(())
}

#[tokio::test]
async fn without_a_record_on_disk_nothing_is_installed() -> Result<()> {
    let workshop = Workshop::start().await?;
    // A folder that cannot be made, also for root.
    std::fs::write(workshop.path("state"), "a file")?;
    assert_eq!(refusal(&workshop, &install("https://example.com/x", None)).await?, Reason::Other);
    ensure!(!workshop.calls().contains("install"));
    Ok(())
}

#[tokio::test]
async fn the_socket_that_systemd_passes_is_served() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    let listener = std::os::unix::net::UnixListener::bind(workshop.socket())?;
    // As systemd does it: the socket is descriptor 3, and the variables name this very process.
    let pass = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" update-agent --state \"$1\"";
    let mut agent = tokio::process::Command::new("sh")
        .args(["-c", pass])
        .arg(binary()?)
        .arg(workshop.path("state"))
        .stdin(OwnedFd::from(listener))
        .kill_on_drop(true)
        .spawn()?;
    assert_eq!(workshop.status().await?.state, State::Idle);
    agent.kill().await?;
    // Without one it says what is missing.
    let (code, text) = said(&workshop.run(&["update-agent"]).await?);
    assert_eq!(code, Some(74));
    ensure!(text.contains("tidegate-update.socket"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_board_that_cannot_try_a_second_system_takes_no_update_and_says_why() -> Result<()> {
    let workshop = Workshop::start().await?;
    let faults = workshop.path("faults");
    std::fs::create_dir_all(&faults)?;
    for (name, reason, words) in [
        ("eeprom-too-old", Reason::EepromTooOld, "bring its EEPROM up to date first"),
        ("boot-choice", Reason::BootChoice, "delete it and start the gateway again"),
    ] {
        std::fs::write(faults.join(name), "a sentence\n")?;
        assert_eq!(refusal(&workshop, &install("https://example.com/x.raucb", None)).await?, reason);
        let (code, text) = said(&workshop.run(&["update", "https://example.com/x.raucb"]).await?);
        assert_eq!(code, Some(1), "{text}");
        ensure!(text.contains(words), "{text}");
        assert_eq!(workshop.status().await?.state, State::Idle);
        std::fs::remove_file(faults.join(name))?;
    }
    ensure!(workshop.calls().is_empty(), "RAUC was asked: {}", workshop.calls());
    Ok(())
}
