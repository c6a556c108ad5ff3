//! The files that a configuration names, found without reading one: provisioning must know which of the files on a card belong
//! to it before it can be read as a whole.

use toml::de::{DeTable, DeValue};

use crate::keys::{Key, Kind, Section, top};
use crate::source::{self, Source};

/// Most files that are listed: 16 uplinks and 16 listeners with five each are fewer.
const NAMED_MAX: usize = 256;

/// A file that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile {
    /// The path as it is written.
    pub path: String,
    /// Whether only root should read it: a private key or a password.
    pub secret: bool,
    /// The line that names it, from 1.
    pub line: u32,
    /// The column of the path there, from 1.
    pub column: u32,
}

/// Every file that a text names, sorted; empty when the text cannot be read. A path that is secret in one place and not in another is there twice, and
/// each with the first place that names it so.
#[must_use]
pub fn named_files(text: &[u8]) -> Vec<NamedFile> {
    let Ok(text) = source::decode("", text) else { return Vec::new() };
    let source = Source::new("", text);
    if source.too_deep().is_some() {
        return Vec::new();
    }
    let (tree, _) = DeTable::parse_recoverable(source.text());
    let mut list = Vec::new();
    table(&source, &top::FILE, tree.get_ref(), &mut list);
    list.sort();
    list.dedup_by(|later, first| later.path == first.path && later.secret == first.secret);
    list.truncate(NAMED_MAX);
    list
}

fn table(source: &Source<'_>, section: &Section, values: &DeTable<'_>, list: &mut Vec<NamedFile>) {
    for (name, value) in values {
        let Some(key) = section.key(name.get_ref()) else { continue };
        let (line, column) = source.place(value.span().start);
        let value = value.get_ref();
        let mut add =
            |path: &str, secret| list.push(NamedFile { path: path.to_owned(), secret, line, column });
        match (&key.kind, value) {
            (Kind::File, DeValue::String(path)) => {
                add(path, is_secret(key));
            }
            // A credential is a file in the folder of keys, whatever it holds.
            (Kind::Name, DeValue::String(name)) if key.name.ends_with("_credential") => {
                add(name, true);
            }
            (Kind::Table(inner), DeValue::Table(values)) => table(source, inner, values, list),
            (Kind::Named(inner) | Kind::Quoted(inner, _), DeValue::Table(tables)) => {
                for values in tables.values().filter_map(|value| value.get_ref().as_table()) {
                    table(source, inner, values, list);
                }
            }
            (Kind::List(inner), DeValue::Array(items)) => {
                for values in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    table(source, inner, values, list);
                }
            }
            _ => {}
        }
    }
}

/// Keys and passwords, by how their keys are called: there is no other word for them in the file.
fn is_secret(key: &Key) -> bool {
    key.name == "key" || key.name.ends_with("_key") || key.name.contains("password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_wherever_they_are_named_and_keys_are_told_from_certificates() {
        let text = b"[gateway]\nid = 1\n[uplink.a]\nca = \"ca.pem\"\nclient_key = 'a.key'\npassword_file = \"p.txt\"\nurl = \"x.pem\"\n\
            [broker.listener.\"b c\"]\ncert = \"ca.pem\"\nkey = \"b.key\"\n[network]\nwifi = { password_file = \"w.txt\" }\n[x\n";
        let found: Vec<_> = named_files(text).into_iter().map(|f| (f.path, f.secret)).collect();
        let expected =
            [("a.key", true), ("b.key", true), ("ca.pem", false), ("p.txt", true), ("w.txt", true)];
        assert_eq!(found, expected.map(|(path, secret)| (path.to_owned(), secret)));
    }

    #[test]
    fn a_path_that_is_a_key_in_one_place_and_none_in_another_is_told_twice() {
        let text = b"[uplink.a]\nca = \"one.pem\"\nclient_key = \"one.pem\"\n[uplink.b]\nca = \"one.pem\"\nca_credential = \"c\"\n";
        let file =
            |path: &str, secret, line, column| NamedFile { path: path.to_owned(), secret, line, column };
        // Each with the first place that names it so.
        let expected = [file("c", true, 6, 17), file("one.pem", false, 2, 6), file("one.pem", true, 3, 14)];
        assert_eq!(named_files(text), expected);
    }

    #[test]
    fn bytes_that_are_no_text_name_nothing() {
        assert_eq!(named_files(b"\xff\xfe\x00"), []);
        assert_eq!(named_files("a.".repeat(100_000).as_bytes()), []);
    }
}
