//! What a configuration would be with the files of the drop zone: which of them belong to it, and what of it is installed already.

use std::path::Path;

use super::drop::{self, CONFIG, Names, TOTAL_BYTES_MAX};
use super::versions::{self, Piece, Set};
use super::{Judge, Named, Places};

/// A configuration that a person wishes.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) set: Set,
    /// Files of the drop zone that are part of it; keys and passwords first, the configuration last.
    pub(super) taken: Vec<Taken>,
    /// Certificates and keys of the drop zone that nothing names.
    pub(super) unused: Vec<String>,
}

/// A file of the drop zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its name there.
    pub(super) name: String,
    pub(super) secret: bool,
}

/// What the drop zone wishes; `None` when nothing lies there.
///
/// # Errors
/// Problems as `file:line:col: text`, in the words for the person who laid the files there.
pub(super) fn candidate(
    places: &Places,
    names: &Names,
    judge: &dyn Judge,
) -> Result<Option<Candidate>, Vec<String>> {
    let (drop, installed) = (&places.drop, &places.config);
    let refuse = |name: &str, text: String| Err(vec![format!("{}:1:1: {text}", drop::shown(name))]);
    let dropped = match names.find(CONFIG) {
        Some(name) => match drop::read(drop, name) {
            Ok(bytes) => Some((name, bytes)),
            Err(error) => return refuse(name, format!("the file {error}")),
        },
        None => match names.misnamed() {
            Some((name, text)) => return refuse(name, text),
            None => None,
        },
    };
    let (config, whole) = match &dropped {
        Some((_, bytes)) => (bytes.clone(), true),
        None => match versions::read_set(installed, judge) {
            Some(set) => (set.config, false),
            None => (Vec::new(), false),
        },
    };
    let named = judge.named(&config);
    if !whole && !named.iter().any(|file| names.find(&file.path).is_some()) {
        return lonely(names, &named).map(|()| None);
    }
    let mut gathered = gather(drop, names, installed, named)?;
    if let Some((name, _)) = dropped {
        gathered.taken.push(Taken { name: name.to_owned(), secret: false });
    }
    gathered.set.config = config;
    Ok(Some(gathered))
}

/// Certificates without a configuration that names them.
fn lonely(names: &Names, named: &[Named]) -> Result<(), Vec<String>> {
    let expected = match named {
        [] => "no gateway.toml lies beside it, and the installed configuration names no file: add the gateway.toml that names it".to_owned(),
        named => {
            let list: Vec<_> = named.iter().map(|file| drop::shown(&file.path)).collect();
            format!("the installed configuration does not name this file, expected one of {}: rename it, or add a gateway.toml", list.join(", "))
        }
    };
    let problems: Vec<_> =
        names.certificates().map(|name| format!("{}:1:1: {expected}", drop::shown(name))).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn gather(drop: &Path, names: &Names, installed: &Path, named: Vec<Named>) -> Result<Candidate, Vec<String>> {
    let mut problems = Vec::new();
    let mut candidate = Candidate {
        set: Set { config: Vec::new(), pieces: Vec::new() },
        taken: Vec::new(),
        unused: Vec::new(),
    };
    let twice = |path: &str| named.iter().filter(|file| file.path == path).count() > 1;
    let mut total = 0;
    for Named { path, secret, line, column } in &named {
        // A file of the system, such as its list of authorities, is not ours to move.
        if Path::new(path).is_absolute() && !Path::new(path).starts_with(installed) {
            continue;
        }
        if let Some(text) = bad_name(path).or_else(|| twice(path).then(|| {
            format!("`{}` is named as a certificate and as a key or password, expected two files: lay them there apart", drop::shown(path))
        })) {
            problems.push(format!("{CONFIG}:{line}:{column}: {text}"));
            continue;
        }
        let bytes = match names.find(path).map(|name| (name, drop::read(drop, name))) {
            Some((name, Ok(bytes))) => {
                candidate.taken.push(Taken { name: name.to_owned(), secret: *secret });
                Some(bytes)
            }
            Some((name, Err(error))) => {
                problems.push(format!("{}:1:1: the file {error}", drop::shown(name)));
                None
            }
            None => versions::installed(installed, path, *secret),
        };
        if let Some(bytes) = bytes {
            total += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            candidate.set.pieces.push(Piece { name: path.clone(), bytes, secret: *secret });
        }
        if total > TOTAL_BYTES_MAX {
            problems.push(format!("{CONFIG}:{line}:{column}: with this file, the files that it names have more than {TOTAL_BYTES_MAX} bytes together: is one of them no certificate?"));
            break;
        }
    }
    candidate.taken.sort_by_key(|taken| !taken.secret);
    let taken = |name: &&str| candidate.taken.iter().any(|taken| taken.name == *name);
    candidate.unused = names.certificates().filter(|name| !taken(name)).map(drop::shown).collect();
    if problems.is_empty() { Ok(candidate) } else { Err(problems) }
}

/// Why a file cannot be installed under the name by which the configuration calls it.
fn bad_name(path: &str) -> Option<String> {
    if drop::is_plain(path) {
        return None;
    }
    let shown = drop::shown(path);
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    Some(if path.contains(['/', '\\']) && drop::is_plain(name) {
        format!("`{shown}` lies in a folder, expected all files directly beside {CONFIG}: write \"{name}\"")
    } else {
        format!(
            "`{shown}` is no name for a file here, expected letters a to z, digits, '.', '_' and '-': rename the file"
        )
    })
}
