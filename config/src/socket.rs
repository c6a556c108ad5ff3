//! Where the gateway of a file listens for commands, found without reading the rest: who looks at a running gateway often does so because its file is not
//! right yet.
//!
//! Only `socket` in `[gateway]` is asked for. Where the file may say it and cannot be understood so far, nothing is guessed: on a machine with two gateways
//! a command would go to the wrong one.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::keys::top::GATEWAY;
use crate::problem::{Findings, Problem, Severity};
use crate::read::top;
use crate::reader::Reader;
use crate::source::{FILE_BYTES_MAX, Source};
use crate::{base_of, read_file};

const TABLE: &str = "gateway";
const KEY: &str = "socket";

/// The control socket that a file names, or the default where it names none.
///
/// # Errors
/// Why that cannot be told: the file cannot be read, or `socket` stands in it where it is wrong or cannot be understood.
pub fn control_socket(path: &Path) -> Result<PathBuf, Problem> {
    let file = path.display().to_string();
    let bytes = read_file(path).map_err(|text| Source::new(&file, "").problem(Severity::Error, 0, text))?;
    // A letter of another code page in a remark hides nothing.
    find(&file, &String::from_utf8_lossy(&bytes)).map(|socket| base_of(path).join(socket))
}

/// The path as the file writes it.
pub(crate) fn find(file: &str, text: &str) -> Result<String, Problem> {
    let source = Source::new(file, text);
    let hidden = |at: usize, what: &str| {
        let text = format!(
            "{what}: mend the file (`gateway-daemon check` says how), or name the socket with --socket"
        );
        source.problem(Severity::Error, at, text)
    };
    if source.text().len() > FILE_BYTES_MAX {
        return Err(hidden(
            0,
            "the file is larger than any configuration, so that `socket` is not looked up",
        ));
    }
    if source.text().contains('\0') {
        return Err(hidden(0, "this is no text in UTF-8, so that `socket` cannot be looked up"));
    }
    if let Some(at) = source.too_deep() {
        return Err(hidden(at, "brackets are nested too deep here, so that `socket` cannot be looked up"));
    }
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    let found = Findings::new(&source);
    let empty = DeTable::new();
    let gateway =
        tree.get_ref().get(TABLE).and_then(|value| Some((value.get_ref().as_table()?, value.span())));
    let whole = errors.is_empty() && gateway.is_some();
    let (table, span) = gateway.unwrap_or((&empty, 0..0));
    let reader = Reader::new(&GATEWAY, table, span, &found);
    let strayed =
        !errors.is_empty() && reader.has(KEY) && !stands_below_gateway(&source, reader.at(KEY).start);
    let known = reader.has(KEY) || whole && reader.lacks(KEY);
    if (strayed || !known)
        && let Some(at) = mention(source.text())
    {
        if let Some(alone) = alone(source.text()).filter(|alone| alone != source.text()) {
            return find(file, &alone);
        }
        return Err(hidden(at, "`socket` may stand here, and the file cannot be understood so far"));
    }
    let found = Findings::new(&source);
    let reader = Reader::new_silent(&GATEWAY, table, 0..0, &found);
    let socket = top::socket(&reader);
    let problem = found.into_problems().list.into_iter().next();
    socket.ok_or_else(|| problem.unwrap_or_else(|| hidden(0, "`socket` cannot be looked up")))
}

/// Whether the last header before a place is that of `[gateway]`, or its line names it: behind an error the parser may have put a key into another table.
fn stands_below_gateway(source: &Source<'_>, at: usize) -> bool {
    let mut end = at;
    loop {
        let (start, line) = source.line_at(end);
        let line = bare(line);
        if is_cut_header(&line) {
            return false;
        }
        if line.starts_with("[gateway]") || line.starts_with("gateway.") || line.starts_with("gateway=") {
            return true;
        }
        match start.checked_sub(1) {
            Some(before) if !line.starts_with('[') => end = before,
            _ => return false,
        }
    }
}

/// A file of nothing but the one line below `[gateway]` that says `socket`, in its place: a line that is broken before it must not hide it. `None` where there
/// is no such line, or more than one, or where a text over several lines may hold it.
fn alone(text: &str) -> Option<String> {
    if text.contains("\"\"\"") || text.contains("'''") {
        return None;
    }
    let (mut below, mut found) = (false, None);
    for (number, line) in text.lines().enumerate() {
        let bare = bare(line);
        if bare.starts_with('[') || is_cut_header(&bare) {
            below = bare == "[gateway]";
        } else if below && ["socket=", "\"socket\"=", "'socket'="].iter().any(|key| bare.starts_with(key)) {
            if found.is_some() {
                return None;
            }
            found = Some((number, line));
        }
    }
    let (number, line) = found?;
    Some(format!("{}[{TABLE}]\n{line}\n", "\n".repeat(number.saturating_sub(1))))
}

/// A line without spaces and without its remark.
fn bare(line: &str) -> String {
    line.split('#').next().unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect()
}

/// `update]`: a header that has lost its first bracket begins another table all the same.
fn is_cut_header(bare: &str) -> bool {
    let name = bare.trim_end_matches(']');
    let is_name = |c: char| c.is_alphanumeric() || "._-(<{".contains(c);
    name.len() < bare.len() && name.contains(char::is_alphanumeric) && name.chars().all(is_name)
}

/// Where a line assigns something to `socket`, or to what may be meant so.
fn mention(text: &str) -> Option<usize> {
    text.match_indices(KEY).map(|(at, _)| at).find(|at| {
        let line = &text[text[..*at].rfind('\n').map_or(0, |n| n + 1)..*at];
        let rest = &text[at + KEY.len()..];
        let rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || "_-\"'".contains(c));
        let word = line.ends_with(|c: char| c.is_alphanumeric() || "_-".contains(c));
        !word && !line.contains('#') && rest.trim_start_matches([' ', '\t']).starts_with('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "/run/tidegate/control.sock";

    fn check(text: &str, expected: Result<&str, &str>) {
        match (find("a.toml", text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(problem), Err(start)) => {
                assert!(problem.to_string().starts_with(start), "{text}\n{problem}");
            }
            (found, expected) => panic!("{text}\n{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_socket_is_found_in_a_file_with_errors() {
        for text in [
            "[gateway]\nsocket = \"/x\"\n",
            "[gateway]\nid = 7\nsocket = \"/x\"\n[broker]\nlistener = 3\nwhatever = true\n",
            "[gateway]\nid = no quotes\nsocket = \"/x\"\n[device.a b]\n",
            "gateway = { id = \"a\", socket = \"/x\" }\n[bus\n",
            "gateway.socket = \"/x\"\n[gateway\n",
            "[gateway]\nsocket = /x\n",
            "[gateway]\nsocket = \"/x\"\n[broker.limits]\nconnections_max = 0\n[update]\nsocket = \"/agent\"\n[update]\n",
        ] {
            check(text, Ok("/x"));
        }
    }

    #[test]
    fn a_broken_line_before_that_of_the_socket_does_not_hide_it() {
        for broken in [
            "id =",
            "id = \"a",
            "id = 'a",
            "id \"a\"",
            "id: \"a\"",
            "= 3",
            ":::",
            "id = [1,",
            "id = { a = 1",
            "id = \"a\" health = true",
            "\"id = 3",
            "log.level = = 3",
            "]",
        ] {
            for socket in ["socket = \"/x\"", "  socket='/x' # here", "\"socket\" = \"/x\""] {
                let text = format!("# a\n[gateway] # b\n{broken}\n{socket}\n[bus.b]\ndriver = \"sim\"\n");
                check(&text, Ok("/x"));
                check(&text.replace('\n', "\r\n"), Ok("/x"));
            }
            let wrong = format!("[gateway]\n{broken}\nsocket = \"\"\n");
            check(&wrong, Err("a.toml:3:10: `socket` is empty"));
        }
    }

    #[test]
    fn a_line_of_another_table_or_of_a_longer_text_is_not_taken_for_that_of_the_gateway() {
        for (text, start) in [
            ("[gateway]\nid = \n[update\nsocket = \"/agent\"\n", "a.toml:4:1: `socket` may stand here"),
            ("[gateway]\nid = \nupdate]\nsocket = \"/agent\"\n", "a.toml:4:1: `socket` may stand here"),
            ("[gateway]\nid = \"\"\"\nsocket = \"/text\"\n", "a.toml:3:1: `socket` may stand here"),
            (
                "[gateway]\nid = \"\"\"a\nsocket = \"/text\"\n\"\"\"\nname = \n",
                "a.toml:3:1: `socket` may stand here",
            ),
        ] {
            check(text, Err(start));
        }
    }

    #[test]
    fn a_broken_file_that_names_no_socket_means_the_default_one() {
        for text in [
            "",
            "[gateway]\nid = 7\n",
            "[gateway]\nid = no quotes\n# socket = \"/x\"\n",
            "[gateway]\nid = \"a\"\n[update]\nsocket = \"/agent\"\n",
            "[broker.listener.a]\nwebsocket = true\n[broker.retained.sensors/#]\n",
            "not TOML at all: no key, no table",
            "[gatewy]\nid = \"a\"\n",
        ] {
            check(text, Ok(DEFAULT));
        }
    }

    #[test]
    fn a_socket_that_cannot_be_understood_is_named_and_not_guessed() {
        for (text, start) in [
            ("[gateway]\nsocket = 7\n", "a.toml:2:10: `socket` is a whole number, expected a path in quotes"),
            ("[gateway]\nsocket = \"\"\n", "a.toml:2:10: `socket` is empty"),
            ("[gateway\nsocket = \"/x\"\n", "a.toml:2:1: `socket` may stand here"),
            ("[gatewy]\nsocket = \"/x\"\n", "a.toml:2:1: `socket` may stand here"),
            ("[gateway]\nsockets = \"/x\"\n", "a.toml:2:1: `socket` may stand here"),
            ("[gateway]\nid = \"a\"\n[update\nsocket = \"/agent\"\n", "a.toml:4:1: `socket` may stand here"),
            (&"=".repeat(FILE_BYTES_MAX + 1), "a.toml:1:1: the file is larger than any configuration"),
            ("[gateway]\nid\0 = 3", "a.toml:1:1: this is no text in UTF-8"),
        ] {
            check(text, Err(start));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_and_a_wrong_letter_in_it_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let problem = control_socket(&path).unwrap_err();
        assert!(
            problem.to_string().ends_with("a.toml:1:1: there is no such file: check the path"),
            "{problem}"
        );
        std::fs::write(&path, b"# f\xfcr Halle 2\n[gateway]\nid = \"a\"\nsocket = \"run/c.sock\"\n").unwrap();
        assert_eq!(control_socket(&path).unwrap(), folder.path().join("run/c.sock"));
    }
}
