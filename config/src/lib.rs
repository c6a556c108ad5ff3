//! One TOML file to the validated `Settings` of every room; every problem in one go.
//!
//! ```text
//! bytes --source--> text --toml--> tree with spans --reader (keys)--> values --read--> Settings
//!                     `-- syntax: what the TOML parser says, in an electrician's words
//! ```
//!
//! Invariants: a [`Config`] is only made of a file without a single error; problems are sorted by position; no message, no
//! `Debug` output and no hash holds a secret. Bounds: [`FILE_BYTES_MAX`], [`PROBLEMS_MAX`], and the `*_MAX` of each section.
//! The keys stand once, in `keys`: reader, [`schema`] and [`reference()`] are made of it.
//!
//! Never: opens a port or a connection, writes a file, or guesses a value that the file does not say.

mod amount;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod named;
mod none;
mod plain_updates;
mod problem;
mod read;
mod reader;
mod reference;
mod schema;
mod socket;
mod source;
mod syntax;
mod unknown;
mod words;

use std::ops::Range;
use std::path::{Path, PathBuf};

use gateway_core::board::settings::Settings as BoardSettings;
use gateway_core::broker::settings::Settings as BrokerSettings;
use gateway_core::fit::Plan;
use gateway_core::network::settings::Settings as NetworkSettings;
use gateway_core::payload::settings::Settings as MessageSettings;
use gateway_core::poll::settings::Settings as FieldSettings;
use gateway_core::settings::{GatewaySettings, LinkSettings, StoreSettings};
use gateway_core::update::settings::Settings as UpdateSettings;
use gateway_core::uplink::settings::Settings as UplinkSettings;
use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

pub use named::{NamedFile, named_files};
pub use plain_updates::allows_http_updates;
pub use problem::{PROBLEMS_MAX, Problem, Problems, Severity};
pub use reference::reference;
pub use schema::schema;
pub use socket::control_socket;
pub use source::FILE_BYTES_MAX;
pub use words::{nearest, nearest_name};

use problem::Findings;
use read::{
    Context, board, broker, bus, device, fit, health, network, own, rules, schedule, top, topic, update,
    uplink,
};
use reader::Reader;
use source::Source;

/// A whole configuration, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The gateway itself.
    pub gateway: GatewaySettings,
    /// The database.
    pub store: StoreSettings,
    /// How readings become messages.
    pub message: MessageSettings,
    /// Buses, devices, poll groups and tags.
    pub field: FieldSettings,
    /// Each uplink's machine and connection, in the order of the file.
    pub uplinks: Vec<(UplinkSettings, LinkSettings)>,
    /// The broker for local clients; `None` when the file has no `[broker]`: no client can connect.
    pub broker: Option<BrokerSettings>,
    /// What all limits of the file cost together, before any was lowered.
    pub plan: Plan,
    /// What is fitted to the board; `None` when the file has no `[board]`.
    pub board: Option<BoardSettings>,
    /// The gateway's own network.
    pub network: NetworkSettings,
    /// Who may command updates of the system; `None` when the file has no `[update]`: no cloud may.
    pub update: Option<UpdateSettings>,
    /// The first 16 hex digits of the SHA-256 of the file's text, without a password that stands in it, to tell one configuration from
    /// another.
    pub hash: String,
}

impl Config {
    /// The topics on which the gateway tells how its buses and devices are; none where the file does not want any.
    #[must_use]
    pub fn health_topics(&self) -> Vec<String> {
        read::health::topics(&self.gateway, &self.field)
    }
}

/// What of the process a configuration depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Where systemd puts the unit's credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials_dir: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }
}

/// Reads a configuration file and the files that it names.
///
/// # Errors
/// All problems of the file, by position; warnings among them. A file that cannot be read is one problem at 1:1.
pub fn load(path: &Path, env: &Environment) -> Result<(Config, Vec<Problem>), Problems> {
    load_as(path, env, Strictness::New)
}

/// As [`load`], for the start of a gateway that has run before, perhaps by a version that did not add up limits or look into certificates: those that do
/// not fit are problems of [`Severity::Unfit`] in the list, and whoever starts has to lower limits by [`Config::plan`].
///
/// # Errors
/// As [`load`].
pub fn load_installed(path: &Path, env: &Environment) -> Result<(Config, Vec<Problem>), Problems> {
    load_as(path, env, Strictness::Installed)
}

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// To be taken.
    New,
    /// To go on with.
    Installed,
}

fn load_as(
    path: &Path,
    env: &Environment,
    strictness: Strictness,
) -> Result<(Config, Vec<Problem>), Problems> {
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|what| {
        Problems::one(Problem {
            severity: Severity::Error,
            file: name.as_str().into(),
            line: 1,
            column: 1,
            text: what,
        })
    })?;
    let text = source::decode(&name, &bytes).map_err(Problems::one)?;
    parse_as(text, &name, &base_of(path), env, strictness)
}

/// The folder in which relative paths of a file are looked up.
fn base_of(path: &Path) -> PathBuf {
    let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::path::absolute(base).unwrap_or_else(|_| base.to_path_buf())
}

/// Reads one byte more than is allowed, so that the caller sees what is too large.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::{ErrorKind, Read as _};
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "there is no such file: check the path".to_owned(),
        ErrorKind::PermissionDenied => "no permission to read the file: check its owner and mode".to_owned(),
        ErrorKind::IsADirectory => "this is a folder, expected a configuration file".to_owned(),
        _ => format!(
            "cannot read the file: {}",
            gateway_core::os::sentence(&error, gateway_core::os::Doing::Reading)
        ),
    };
    let metadata = path.metadata().map_err(why)?;
    if metadata.is_dir() {
        return Err(why(ErrorKind::IsADirectory.into()));
    }
    // Opening a pipe that lies somewhere would wait for who writes to it; one that this process was given has somebody who does.
    if !metadata.is_file() && !is_given(path) {
        return Err("this is a pipe, socket or device, expected a configuration file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(why)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(why)?;
    Ok(bytes)
}

/// Whether a path is that of a file which is open already: standard input, or `<(command)` of a shell.
fn is_given(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

/// Reads a configuration text. `file` is what messages call it; relative paths are looked up in `base`.
///
/// # Errors
/// All problems of the text, by position; warnings among them.
pub fn parse(
    text: &str,
    file: &str,
    base: &Path,
    env: &Environment,
) -> Result<(Config, Vec<Problem>), Problems> {
    parse_as(text, file, base, env, Strictness::New)
}

fn parse_as(
    text: &str,
    file: &str,
    base: &Path,
    env: &Environment,
    strictness: Strictness,
) -> Result<(Config, Vec<Problem>), Problems> {
    source::decode(file, text.as_bytes()).map_err(Problems::one)?;
    let source = Source::new(file, text);
    if let Some(at) = source.too_deep() {
        let text = "brackets or dots are nested deeper here than any key needs, expected a ] or } before: close what is open above";
        return Err(Problems::one(source.problem(Severity::Error, at, text.to_owned())));
    }
    let found = Findings::new(&source);
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    syntax::report(&source, &errors, &found);
    let empty = DeTable::new();
    let cx = Context { found: &found, empty: &empty, base, env };
    let config = config(&cx, tree.get_ref(), source.text());
    let refused = found.has_errors() || (strictness == Strictness::New && found.has_unfit());
    let problems = found.into_problems();
    match config {
        Some(config) if !refused => Ok((config, problems.list)),
        _ => Err(problems),
    }
}

fn config<'t>(cx: &Context<'_, 't>, tree: &DeTable<'t>, text: &str) -> Option<Config> {
    let file = Reader::new(&keys::top::FILE, tree, 0..0, cx.found);
    let gateway = top::gateway(cx, &file);
    let store = top::store(cx, &file);
    let message = top::message(cx, &file);
    let id = gateway.as_ref().map(|g| g.id.as_str());
    // What follows from several values is said only where none of them was refused: anything else would be said of values that nobody wrote.
    let (memory_max, memory_sound) = cx.found.sound(|| top::memory_max(&file));
    let (mut uplinks, uplinks_sound) = cx.found.sound(|| uplink::uplinks(cx, &file, id, store.as_ref()));
    let (broker, broker_sound) = cx.found.sound(|| broker::broker(cx, &file, store.as_ref()));
    let (broker, said) = broker.map_or((None, Vec::new()), |(broker, said)| (Some(broker), said));
    let mut broker = broker.filter(|_| broker_sound);
    let plan = store.as_ref().filter(|_| memory_sound && uplinks_sound && broker_sound);
    let plan =
        plan.map(|store| fit::fit(cx, &file, store, memory_max, &mut uplinks, (broker.as_mut(), &said)));
    rules::warn_circles(cx, &uplinks);
    uplink::warn_own(cx, &uplinks, broker.as_ref());
    // With local clients nobody knows which topics there are.
    let alone = file.lacks("broker");
    if alone {
        uplink::warn_unheard(cx, &uplinks);
    }
    let (field, field_sound) = cx.found.sound(|| device::field(cx, &file, bus::buses(cx, &file)));
    let field_whole = field.whole && field_sound;
    if field_whole {
        schedule::report(cx, &field.settings, &field.places);
    }
    if let (Some(gateway), Some(message), true) = (&gateway, &message, field_whole) {
        let (id, health) = (gateway.id.as_str(), health::topics(gateway, &field.settings));
        let placed = topic::topics(cx, id, message, &field.settings, &field.places);
        health::refuse(cx, gateway, &placed, &field.settings, &uplinks);
        let topics: Vec<String> = placed.into_iter().map(|(topic, _)| topic).collect();
        if alone {
            uplink::warn_idle(cx, &uplinks, &topics);
        }
        own::warn(cx, &file, id, &uplinks, (broker.as_ref(), [topics, health].concat()));
    }
    let update = update::update(cx, &file, id, &uplinks);
    let board = board::board(cx, &file);
    let network = network::network(cx, &file, gateway.as_ref().map(|g| &g.id));
    for (key, what) in [
        ("uplink", "no [uplink.NAME] in this file, so readings go nowhere"),
        ("device", "no [device.NAME] in this file, so nothing is read"),
    ] {
        // A gateway may be nothing but a broker.
        if file.lacks(key) && alone {
            cx.found.warn(&file.here(), format!("{what}: see docs/config.md"));
        }
    }
    Some(Config {
        gateway: gateway?,
        store: store?.settings,
        message: message?,
        field: field.settings,
        plan: plan?,
        uplinks: uplinks.into_iter().map(|u| (u.settings, u.link)).collect(),
        broker,
        board: board?,
        network: network.settings?,
        update,
        hash: hash(text, network.secret),
    })
}

/// The hash is told to the cloud: it must not be a way to try passwords.
fn hash(text: &str, secret: Option<Range<usize>>) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let secret = secret.unwrap_or(0..0);
    let parts = [text.get(..secret.start), text.get(secret.end..)].map(Option::unwrap_or_default);
    for byte in Sha256::digest(parts.concat().as_bytes()).iter().take(8) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
