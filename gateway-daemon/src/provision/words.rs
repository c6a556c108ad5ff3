//! Every text that a person reads: on the drive, on the console, in the folder of faults.

use std::fmt::Write as _;

use super::Now;

/// What became of the files on the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// With the configuration that it had.
    Former,
    /// With the one that it made for itself.
    Own,
}

/// `gateway-errors.txt`.
pub(super) fn errors(problems: &[String], on_drive: &[String], runs: Runs) -> String {
    let mut out =
        String::from("The gateway could not use the files on this drive. Nothing of it was changed:\n");
    out.push_str(match runs {
        Runs::Former => "it runs with the configuration that it had before.\n",
        Runs::Own => "it runs without a configuration, so it reads nothing and sends nothing.\n",
    });
    out.push_str("\nWhat is wrong (file:line:column):\n\n");
    for problem in problems {
        let _ = writeln!(out, "{problem}");
    }
    if !on_drive.is_empty() {
        let _ = write!(out, "\nCertificates and keys on this drive: {}\n", on_drive.join(", "));
    }
    out.push_str(
        "\nWhat to do:\n\n\
         1. Correct the lines above, in the files on this drive. A text editor such as Notepad is enough.\n\
         2. Eject the drive, put the card back into the gateway and switch it on.\n\
         3. Look at this drive again: gateway-applied.txt means that all is well, gateway-errors.txt that something is left.\n\n\
         Files that were found here are still here, private keys and passwords as well: keep the card safe until they are gone.\n",
    );
    out
}

/// What was installed.
#[derive(Debug)]
pub(super) struct Applied<'a> {
    pub(super) id: &'a str,
    pub(super) hash: &'a str,
    /// When, if the clock can be believed.
    pub(super) time: Option<&'a str>,
    pub(super) files: &'a [String],
    pub(super) warnings: &'a [String],
    pub(super) unused: &'a [String],
    /// What could not be removed from the drive.
    pub(super) left: &'a [String],
}

/// `gateway-applied.txt`.
pub(super) fn applied(applied: &Applied<'_>) -> String {
    let mut out = String::from("The gateway has taken over the configuration of this drive.\n\n");
    let _ = writeln!(out, "id:      {}", applied.id);
    let _ = writeln!(out, "time:    {}", applied.time.unwrap_or("not known, the clock was not set yet"));
    let _ = writeln!(out, "hash:    {}", applied.hash);
    let _ = writeln!(out, "files:   {}", applied.files.join(", "));
    if applied.left.is_empty() {
        out.push_str("\nThey were moved off this drive.\n");
    } else {
        let _ = write!(
            out,
            "\nCould not be removed from this drive, so remove them yourself: {}\n",
            applied.left.join(", ")
        );
    }
    if !applied.unused.is_empty() {
        let _ = write!(
            out,
            "\nNot used, because gateway.toml does not name them: {}\n",
            applied.unused.join(", ")
        );
    }
    if !applied.warnings.is_empty() {
        out.push_str("\nWorks, but look at it:\n\n");
        for warning in applied.warnings {
            let _ = writeln!(out, "{warning}");
        }
    }
    out.push_str("\nTo change something, put a gateway.toml on this drive again.\n");
    out
}

/// `gateway-status.txt`, and what stands on the console.
pub(super) fn status(now: &Now, addresses: &[String], ports: &[String]) -> String {
    let mut out = match &now.id {
        Some(id) => {
            format!("Tidegate, gateway {id}, some minutes after its start or since something changed:\n\n")
        }
        None => "Tidegate, some minutes after its start or since something changed:\n\n".to_owned(),
    };
    let first = now.verdict.lines().next().unwrap_or_default();
    let _ = writeln!(out, "{first}");
    for wrong in now.wrong.iter().skip(1) {
        let _ = writeln!(out, "also: {wrong}");
    }
    let list = |names: &[String], none: &str| {
        if names.is_empty() { none.to_owned() } else { names.join("\n              ") }
    };
    let _ = write!(
        out,
        "\naddresses:    {}\nserial ports: {}\n",
        list(addresses, "none: is the network cable plugged in, and is there a DHCP server?"),
        list(ports, "none: is the adapter plugged in?")
    );
    out
}

/// `README.txt`.
pub(super) const README: &str = include_str!("README.txt");

/// A text as every editor shows it: Windows line ends, and a mark in front when it is more than ASCII.
pub(super) fn for_any_editor(text: &str) -> String {
    let mark = if text.is_ascii() { "" } else { "\u{feff}" };
    format!("{mark}{}", text.replace('\n', "\r\n"))
}

/// The configuration of a gateway that has none.
pub(super) fn own_config(id: &str) -> String {
    format!(
        "# Made by the gateway itself, because nobody has given it a configuration yet.\n[gateway]\nid = \"{id}\"\n"
    )
}

/// What stands on the console of a gateway without a configuration.
pub(super) fn welcome(id: &str) -> String {
    format!(
        "Tidegate runs, and has no configuration yet: it reads nothing, sends nothing and opens no port.\n\
         \n\
         \x20 its name:    {id}\n\
         \x20 its network: by DHCP on every wired connection\n\
         \n\
         To configure it: switch it off, put its card into any computer, write gateway.toml to the drive TIDEGATE\n\
         (README.txt there says how) with the certificates that it names, put the card back and switch it on.\n"
    )
}

/// The sentence for the folder of faults and the console when a drop was refused.
pub(super) fn refused(problems: &[String], written: bool) -> String {
    let first = problems.first().map_or("", String::as_str);
    let more = match problems.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let place = if written { "; gateway-errors.txt on the drive TIDEGATE says what to do" } else { "" };
    format!("the files on the drive TIDEGATE were refused: {first}{more}{place}")
}
