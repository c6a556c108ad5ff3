//! docs/config.md: every key with its range, default and meaning, made from the tables that the reader uses.

use std::fmt::Write as _;

use crate::keys::{Key, Kind, Need, Section, board, broker, field, network, top, update, uplink};
use crate::words;

/// The sections in the order of the reference.
const SECTIONS: &[&Section] = &[
    &top::GATEWAY,
    &top::STORE,
    &top::MESSAGE,
    &uplink::UPLINK,
    &uplink::RULE,
    &uplink::QUEUE,
    &broker::BROKER,
    &broker::LISTENER,
    &broker::USER,
    &broker::CLIENT,
    &broker::RETAINED,
    &broker::LIMITS,
    &field::BUS,
    &field::RS485,
    &field::DEVICE,
    &field::POLL,
    &field::TAG,
    &board::BOARD,
    &network::NETWORK,
    &network::ETHERNET,
    &network::WIFI,
    &update::UPDATE,
];

/// The reference of the configuration file, Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# The configuration file\n\n<!-- Made by gateway_config::reference(); refresh with `cargo xtask golden`. -->\n\n",
    );
    let _ = writeln!(
        out,
        "{}\n\n`gateway-daemon check FILE` reports every mistake with its line; `gateway-daemon schema` prints a JSON Schema for editors.\n\
         [config/gateway.example.toml](../config/gateway.example.toml) shows every key at work.",
        top::FILE.doc
    );
    for section in SECTIONS {
        let _ = write!(out, "\n## `{}`\n\n{}\n\n", section.title, section.doc);
        let _ = writeln!(out, "| Key | Value | Default | Meaning |\n|---|---|---|---|");
        for key in section.keys {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                key.name,
                value(&key.kind),
                default(key),
                meaning(key)
            );
        }
    }
    out
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Choice(words, _) => {
            let words: Vec<_> = words.iter().map(|w| format!("`\"{}\"`: {}", w.word, w.doc)).collect();
            words.join("<br>")
        }
        Kind::Name => "a name in quotes".to_owned(),
        Kind::Table(section) => format!("a table, see `{}`", section.title),
        Kind::Rules(section) => format!("a list of topic filters, or of tables, see `{}`", section.title),
        Kind::Named(_) | Kind::Quoted(..) | Kind::List(_) => "tables".to_owned(),
        kind => words::expected(kind),
    }
}

fn default(key: &Key) -> String {
    match key.need {
        Need::Required => "**required**".to_owned(),
        Need::Optional | Need::Default("{}") => String::new(),
        Need::Default(literal) => format!("`{literal}`"),
    }
}

fn meaning(key: &Key) -> String {
    if key.only.is_empty() {
        return key.doc.to_owned();
    }
    format!("{} Only with {}.", key.doc, words::list(key.only.iter().map(|w| format!("`\"{w}\"`")), "or"))
}

#[cfg(test)]
mod tests {
    use super::reference;
    use crate::read::{broker, bus, device, uplink};

    #[test]
    fn the_reference_says_how_many_of_each_a_file_may_have() {
        let reference = reference();
        for sentence in [
            format!("at most {} in a file.", bus::BUSES_MAX),
            format!(
                "at most {} in a file, with at most {} tags together.",
                device::DEVICES_MAX,
                device::TAGS_MAX
            ),
            format!("One connection to an MQTT broker; at most {} in a file.", uplink::UPLINKS_MAX),
            format!("One door; at most {} in a file.", broker::LISTENERS_MAX),
        ] {
            assert!(reference.contains(&sentence), "{sentence} is not in docs/config.md");
        }
    }
}
