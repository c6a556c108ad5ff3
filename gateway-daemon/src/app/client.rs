//! `read` and `write`: the gateway's control socket seen from a terminal.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::request::Table;

use super::control::{Ask, Client, RawAt, Reply, too_many};
use super::picture::words;
use super::say;
use super::snapshot::Tag;
use crate::cli::{self, RawPoint, WriteTarget, exit};

/// A gateway that is asked for what it knows and says nothing for so long is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// `read`: the exit code.
#[must_use]
pub fn read(args: &cli::Read) -> u8 {
    let asks = match &args.raw {
        Some(point) => vec![Ask::ReadRaw { at: raw_at(point), count: point.count }],
        None => {
            let ask =
                |tag: &cli::TagRef| Ask::Read { device: tag.device.to_string(), tag: tag.tag.to_string() };
            args.tags.iter().map(ask).collect()
        }
    };
    converse(&args.reach, &asks, args.json)
}

/// `write`: the exit code.
#[must_use]
pub fn write(args: &cli::Write) -> u8 {
    let ask = match args.target() {
        Ok(WriteTarget::Tag(tag, value)) => {
            Ask::Write { device: tag.device.to_string(), tag: tag.tag.to_string(), value }
        }
        Ok(WriteTarget::Registers(point, values)) => Ask::WriteRaw { at: raw_at(&point), values },
        Ok(WriteTarget::Coils(point, on)) => {
            Ask::WriteRaw { at: raw_at(&point), values: on.into_iter().map(u16::from).collect() }
        }
        Err(sentence) => {
            say::error(sentence);
            return exit::USAGE;
        }
    };
    converse(&args.reach, &[ask], args.json)
}

fn raw_at(point: &RawPoint) -> RawAt {
    let (bus, unit) = (point.bus.to_string(), point.unit.get());
    RawAt { bus, unit, table: cli::table_word(point.table).into(), address: point.address }
}

/// Asks one after the other and prints the answers.
pub(super) fn converse(reach: &cli::Reach, asks: &[Ask], json: bool) -> u8 {
    let socket = match socket(reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let replies = match exchange(&socket, asks) {
        Ok(replies) => replies,
        Err(code) => return code,
    };
    let mut code = exit::OK;
    for (ask, reply) in asks.iter().zip(replies) {
        match reply {
            Reply::Tag(tag) => {
                if json {
                    say::json(&serde_json::json!(*tag));
                } else {
                    say::line(line(&tag));
                }
                if !tag.is_good() {
                    code = exit::NO;
                }
            }
            Reply::Written(written) if json => say::json(&serde_json::json!(written.tag)),
            Reply::Written(written) => {
                let rounded = written.rounded().map(|why| format!(" ({why})")).unwrap_or_default();
                say::line(format_args!("{}{rounded}", line(&written.tag)));
            }
            Reply::Values(values) if json => say::json(&serde_json::json!(values)),
            Reply::Values(values) => print_values(ask, &values),
            Reply::Text(text) => say::line(text.trim_end()),
            // Not asked for here, or told as a fault.
            Reply::Status(_) | Reply::Sessions(_) | Reply::Dropped(_) | Reply::Queue(_) | Reply::Busy(_) => {}
            Reply::Refused(why) | Reply::Unknown(why) => {
                say::error(&why);
                if let (Ask::Read { device, tag } | Ask::Write { device, tag, .. }, true) = (ask, json) {
                    // So that there is one line for each tag that was asked for.
                    say::json(&serde_json::json!({ "device": device, "tag": tag, "error": why }));
                }
                code = exit::NO;
            }
        }
    }
    code
}

/// The control socket of the gateway that is meant.
///
/// # Errors
/// The exit code, after it was printed why the configuration does not say it.
pub fn socket(reach: &cli::Reach) -> Result<PathBuf, u8> {
    match &reach.config {
        // What is wrong with the file is for `check` and `run`: who looks at the gateway often does so because of that.
        Some(file) => gateway_config::control_socket(file).map_err(|problem| {
            say::complaint(problem);
            exit::CONFIG
        }),
        None => Ok(reach.socket.clone()),
    }
}

/// One answer to each question.
///
/// # Errors
/// The exit code, after the reason was printed.
pub fn exchange(socket: &Path, asks: &[Ask]) -> Result<Vec<Reply>, u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| {
        say::error(fault);
        exit::IO
    })?;
    runtime.block_on(ask_all(socket, asks)).map_err(|fault| fault.told())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens.
    #[error("{}", unreachable_gateway(.0, .1))]
    Unreachable(PathBuf, std::io::Error),
    /// The gateway went away meanwhile, or speaks another language.
    #[error("{}", os::sentence(.0, Doing::Asking))]
    Broken(std::io::Error),
    /// Something listens and says nothing.
    #[error("the gateway behind {} does not answer within {} s; its log says why, or restart it", .0.display(), ANSWER_MAX.as_secs())]
    Silent(PathBuf),
    /// The gateway is well and has no place for one more client.
    #[error("{0}")]
    Busy(String),
}

impl NoAnswer {
    /// Prints it; the exit code.
    #[must_use]
    pub fn told(&self) -> u8 {
        say::error(self);
        self.code()
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Unreachable(..) | Self::Silent(_) => exit::UNAVAILABLE,
            Self::Broken(_) => exit::IO,
            Self::Busy(_) => exit::BUSY,
        }
    }
}

/// One answer to each question.
///
/// # Errors
/// Nobody listens, or the gateway hung up.
pub async fn ask_all(socket: &Path, asks: &[Ask]) -> Result<Vec<Reply>, NoAnswer> {
    let connected = Client::connect(socket).await;
    let mut client = connected.map_err(|fault| match fault.kind() {
        // So many wait that not even the next one can.
        ErrorKind::WouldBlock => NoAnswer::Busy(too_many()),
        _ => NoAnswer::Unreachable(socket.into(), fault),
    })?;
    let mut replies = Vec::new();
    for ask in asks {
        let answer = async {
            client.ask(ask).await?;
            client.reply().await
        };
        let answer = match ask {
            // The device has its own time.
            Ask::Read { .. } | Ask::Write { .. } | Ask::ReadRaw { .. } | Ask::WriteRaw { .. } => {
                Ok(answer.await)
            }
            _ => tokio::time::timeout(ANSWER_MAX, answer).await,
        };
        let answer = answer.map_err(|_| NoAnswer::Silent(socket.into()))?;
        match answer.map_err(NoAnswer::Broken)? {
            Reply::Busy(sentence) => return Err(NoAnswer::Busy(sentence)),
            reply => replies.push(reply),
        }
    }
    Ok(replies)
}

fn unreachable_gateway(socket: &Path, fault: &std::io::Error) -> String {
    let shown = socket.display();
    match fault.kind() {
        ErrorKind::PermissionDenied => no_permission(socket),
        // Our own words: something else than a socket lies there.
        ErrorKind::Other => {
            format!("{shown} is not the socket of a gateway: {fault}")
        }
        _ => format!(
            "no gateway is running behind {shown}: {}; start it, or name its socket with --socket or --config",
            os::sentence(fault, Doing::Asking)
        ),
    }
}

/// What somebody can do who may not speak to a socket; its group may.
pub(super) fn no_permission(socket: &Path) -> String {
    // Who may not look into its folder is told the folder's group: it is the same user's.
    let place = socket.metadata().or_else(|_| socket.parent().unwrap_or(socket).metadata());
    let shown = socket.display();
    match place.ok().map(|place| place.gid()).filter(|gid| *gid != 0) {
        None => format!("no permission for {shown}; run this with sudo"),
        Some(gid) => {
            let group =
                std::fs::read_to_string("/etc/group").ok().and_then(|groups| group_name(&groups, gid));
            let group = group.unwrap_or_else(|| gid.to_string());
            format!(
                "no permission for {shown}; run this with sudo, or let this user into the group {group} (sudo usermod -aG {group} \"$USER\") and log in again"
            )
        }
    }
}

/// The name of a group in the text of /etc/group.
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// A tag on one line.
fn line(tag: &Tag) -> String {
    let name = format!("{}/{}", tag.device, tag.tag);
    match &tag.value {
        Some(value) => {
            // A number with every digit that it has, a switch as everywhere else.
            let value = if value.is_boolean() { words::value(value) } else { value.to_string() };
            format!("{name} = {value} {}", tag.unit.as_deref().unwrap_or_default()).trim_end().to_owned()
        }
        None => format!("{name} is bad: {}", tag.quality),
    }
}

/// Registers as `address: decimal hex`, bits as `address: 0`.
fn print_values(ask: &Ask, values: &[u16]) {
    let Ask::ReadRaw { at, .. } = ask else {
        say::line("written");
        return;
    };
    let bits = at.table == cli::table_word(Table::Coil) || at.table == cli::table_word(Table::Discrete);
    for (address, value) in (u32::from(at.address)..).zip(values) {
        if bits {
            say::line(format_args!("{address:>5}: {value}"));
        } else {
            say::line(format_args!("{address:>5}: {value:>5}  0x{value:04x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_speak_to_the_gateway_is_told_the_name_of_the_group_that_may() {
        let groups = "root:x:0:\nbroken\nnonsense:x:many:\ntidegate:x:990:operator\n";
        assert_eq!(group_name(groups, 990).as_deref(), Some("tidegate"));
        assert_eq!(group_name(groups, 991), None);
        let dir = tempfile::tempdir().unwrap();
        let said = no_permission(&dir.path().join("control.sock"));
        assert!(said.contains("sudo"), "{said}");
        let own = dir.path().metadata().unwrap().gid();
        assert_eq!(said.contains("usermod -aG"), own != 0, "{said}");
    }

    #[test]
    fn something_else_in_place_of_the_socket_is_not_called_a_gateway_that_ended() {
        let fault = std::io::Error::other("it is a file and no socket; check the path");
        let said = unreachable_gateway(Path::new("/tmp/x"), &fault);
        assert_eq!(said, "/tmp/x is not the socket of a gateway: it is a file and no socket; check the path");
    }
}
