//! What the TOML parser says, in the words of somebody who has never heard of TOML.
//!
//! The parser goes on after an error, so that one report holds all of them. What it says after a bracket that is never
//! closed is an echo and left out, and so is every problem behind it.

mod unquoted;

use toml::de::Error;

use crate::problem::Findings;
use crate::source::Source;
use crate::words::{as_name, shown};

/// How far up an open bracket is looked for: longer lists of topics do not occur.
const LINES_UP_MAX: usize = 200;

/// How far back the first of two equal keys is looked for.
const LINES_BACK_MAX: usize = 1000;

/// Reports the errors of the parser.
pub(crate) fn report(source: &Source<'_>, errors: &[Error], found: &Findings<'_>) {
    let mut list: Vec<(usize, &str)> =
        errors.iter().map(|e| (e.span().map_or(0, |span| span.start), e.message())).collect();
    list.sort_by_key(|(at, _)| *at);
    // Two tables of one name: everything in the second is there twice, which is reported once.
    let mut twice = 0..0;
    for (at, message) in list {
        let is_twice = message.contains("duplicate key");
        if found.is_broken(at) || is_twice && twice.contains(&at) {
            continue; // what follows in the same line is mostly an echo of the first error
        }
        if found.is_full() {
            found.count_one_more();
            continue;
        }
        if let Some(open) = runaway(source, at, message) {
            found.syntax(open, open_bracket(source, open));
            found.ignore(open..usize::MAX);
            return;
        }
        let place = Place::new(source, at);
        found.syntax(at, place.explain(message));
        if place.line.trim_start().starts_with('[') {
            let section = place.start..next_header(source, at);
            if is_twice {
                twice = section;
            } else {
                found.ignore(section); // its keys have landed in another table
            }
        }
    }
}

/// Start of the next line that begins with a bracket.
fn next_header(source: &Source<'_>, at: usize) -> usize {
    let mut at = at;
    while let Some(step) = source.text().get(at..).and_then(|rest| rest.find('\n')) {
        at += step + 1;
        if source.line_at(at).1.trim_start().starts_with('[') {
            return at;
        }
    }
    source.text().len()
}

/// The bracket that an error at the beginning of a line, or at the end of the file, comes from.
fn runaway(source: &Source<'_>, at: usize, message: &str) -> Option<usize> {
    let (start, line) = source.line_at(at);
    let first = source.text().get(start..at).is_some_and(|before| before.trim().is_empty());
    let inside =
        ["missing comma between", "missing key for inline", "extra assignment", "missing assignment"];
    let echo =
        first && !line.trim_start().starts_with([',', ';']) && inside.iter().any(|m| message.starts_with(m));
    let at_end = message.starts_with("unclosed array,") || message.starts_with("unclosed inline table");
    if !echo && !at_end {
        return None;
    }
    let mut end = if at_end { source.text().len() } else { start };
    for _ in 0..LINES_UP_MAX {
        let (line_start, line) = source.line_at(end.checked_sub(1)?);
        if let Some(offset) = open_in(line) {
            return Some(line_start + offset);
        }
        end = line_start;
    }
    None
}

/// Offset of the last bracket of a line that is not closed in it.
fn open_in(line: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '#') => break,
            (None, '[' | '{') => open.push(at),
            (None, ']' | '}') => _ = open.pop(),
            _ => {}
        }
    }
    open.pop()
}

fn open_bracket(source: &Source<'_>, open: usize) -> String {
    let (start, line) = source.line_at(open);
    if let Some(list) = unquoted::hidden_list(&line[open - start..]) {
        return format!(
            "everything behind # is a comment, so that the list does not end, expected each filter in quotes: write {list}, what follows was not looked at"
        );
    }
    let (bracket, close) = if source.slice(&(open..open + 1)) == "[" { ('[', ']') } else { ('{', '}') };
    format!(
        "the '{bracket}' is not closed, expected '{close}' at the end of the line: add it, what follows was not looked at"
    )
}

/// The surroundings of an error.
struct Place<'a> {
    source: &'a Source<'a>,
    at: usize,
    start: usize,
    line: &'a str,
    /// The key whose value the error is in, empty when there is none.
    key: &'a str,
    /// The text of that value.
    value: &'a str,
}

impl<'a> Place<'a> {
    fn new(source: &'a Source<'a>, at: usize) -> Self {
        let (start, line) = source.line_at(at);
        let offset = at.saturating_sub(start).min(line.len());
        let offset = (0..=offset).rev().find(|o| line.is_char_boundary(*o)).unwrap_or(0);
        let before = &line[..offset];
        let (key, value) = match before.rfind('=') {
            None => ("", ""),
            Some(equals) => {
                let key = line[..equals].trim_end();
                let key_start = key.rfind(|c: char| "{, \t".contains(c)).map_or(0, |n| n + 1);
                let key = key[key_start..].rsplit('.').next().unwrap_or("");
                let value = &line[equals + 1..];
                let end = unquoted::value_end(value);
                (key, value[..end].trim())
            }
        };
        Self { source, at, start, line, key, value }
    }

    /// Whether the value may be a secret: then it is not repeated.
    fn is_secret(&self) -> bool {
        may_be_secret(self.line)
    }

    fn explain(&self, message: &str) -> String {
        let trimmed = self.line.trim_start();
        if self
            .line
            .contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}'])
        {
            return "typographic quotes, expected straight ones: write \" or ' instead (text programs change them)".to_owned();
        }
        if self.line.contains(|c: char| c.is_control() && !"\t\r".contains(c)) {
            return self.invisible();
        }
        if let Some((before, after)) = self.decimal_comma() {
            return format!("{before},{after} has a comma, expected a decimal point: write {before}.{after}");
        }
        let begins = |word: &str| message.starts_with(word);
        if !begins("duplicate key")
            && let Some(text) = unquoted::name(self.source, self.start, self.line)
        {
            return text;
        }
        if begins("string values must be quoted") || begins("invalid boolean") || begins("missing value,") {
            return self.bare_value();
        }
        if begins("too few unicode") || begins("missing escaped value") || begins("invalid value") {
            return "a backslash in \" \" begins a special character, expected / in paths: write / instead of each \\".to_owned();
        }
        if begins("invalid basic string") || begins("invalid literal string") || begins("invalid multi-line")
        {
            return self.broken_string();
        }
        if begins("key with no value") || begins("missing value for key") {
            return no_equals(trimmed);
        }
        if begins("unclosed table") || begins("unclosed array table") {
            return broken_header(trimmed);
        }
        if begins("invalid unquoted key") || begins("unquoted keys cannot be empty") {
            return self.broken_key(trimmed);
        }
        if begins("duplicate key") {
            return self.duplicate();
        }
        self.explain_rest(message, trimmed)
    }

    fn explain_rest(&self, message: &str, trimmed: &str) -> String {
        let begins = |word: &str| message.starts_with(word);
        let value = if self.is_secret() { "the value".to_owned() } else { shown(self.value) };
        if begins("unexpected leading zero") {
            let number = self.value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
            let number = number.trim_start_matches('0');
            let number = if number.is_empty() { "0" } else { number };
            return format!(
                "a number begins with a zero, expected none before other digits: write {} = {number}",
                shown(self.key)
            );
        }
        if begins("unexpected key or value") && trimmed.starts_with('[') {
            return format!(
                "something follows the table name, expected nothing more in this line: {} or [[ ]] around it",
                "write [ ]"
            );
        }
        if begins("unexpected key or value") || begins("unexpected content") {
            return "something follows the value, expected one `key = value` in each line: begin a new line, or a comment with #".to_owned();
        }
        if begins("invalid ") && !self.key.is_empty() && !trimmed.starts_with('{') {
            return format!(
                "{value} is neither a number nor text, expected text in quotes: write {}",
                self.quoted()
            );
        }
        if begins("redundant") || begins("unexpected sign") || begins("`_` may only") {
            return format!("{value} is not a number, expected digits with at most one sign and one point");
        }
        if begins("carriage return") {
            return "the line ends with a lone carriage return, expected a line feed: save the file again with Unix line ends".to_owned();
        }
        if begins("extra `=`") {
            return "one '=' too many, expected `key = value`: remove it".to_owned();
        }
        if begins("cannot extend value") {
            return "this name already has a value above, expected a table to add to: rename one of the two"
                .to_owned();
        }
        if trimmed.starts_with(['{', '}']) {
            return "this looks like JSON, expected TOML, lines of `key = value` below a [table]: see config/minimal.toml".to_owned();
        }
        if begins("extra comma") {
            return "one comma too many, expected a comma only between two values: remove it".to_owned();
        }
        if begins("extra assignment")
            || begins("missing comma")
            || begins("missing assignment")
            || begins("missing key")
        {
            return "a comma or '=' is missing here, expected { key = value, key = value }: add it"
                .to_owned();
        }
        if begins("invalid comment") {
            return self.invisible();
        }
        format!("this is not `key = value`, `[table]` or `# comment` ({}): correct the line", shown(message))
    }

    /// The digits around a comma near the error.
    fn decimal_comma(&self) -> Option<(&'a str, &'a str)> {
        let offset = self.at.saturating_sub(self.start).min(self.line.len());
        let is_near = |comma: &usize| comma.abs_diff(offset) <= 3 && self.line[..*comma].contains('=');
        self.line.match_indices(',').map(|(at, _)| at).filter(is_near).find_map(|comma| {
            let (before, after) = (&self.line[..comma], &self.line[comma + 1..]);
            let before = &before[after_last(before, |c| !c.is_ascii_digit() && c != '-')..];
            let after = &after[..after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())];
            (!before.is_empty() && !after.is_empty()).then_some((before, after))
        })
    }

    /// A value that begins like nothing known.
    fn bare_value(&self) -> String {
        let key = shown(self.key);
        if let Some(list) = unquoted::list(self.value).filter(|_| !self.is_secret()) {
            return format!(
                "`{key}` holds a text without quotes, expected each in quotes: write {key} = {list}"
            );
        }
        let word = self.value.split(',').next().unwrap_or("").trim();
        if word.is_empty() && unquoted::takes_filters(self.key) && self.line.contains('#') {
            return format!(
                "`{key}` has no value, because everything behind # is a comment, expected the filter in quotes: write {}",
                unquoted::everything(self.key)
            );
        }
        if word.is_empty() {
            return format!("`{key}` has no value, expected one after '=': fill it or remove the line");
        }
        if word.contains('=') {
            return two_in_one(self.line);
        }
        if self.is_secret() {
            return format!(
                "the value of `{key}` has no quotes, expected text in quotes: write {key} = \"...\""
            );
        }
        match word.to_lowercase().as_str() {
            "true" | "yes" | "on" | "ja" => {
                format!("`{key}` = {word} is not known, expected true or false: write {key} = true")
            }
            "false" | "no" | "off" | "nein" => {
                format!("`{key}` = {word} is not known, expected true or false: write {key} = false")
            }
            _ if word.split_whitespace().count() > 1
                && word.split_whitespace().all(|w| w.parse::<f64>().is_ok()) =>
            {
                format!("`{key}` = {} are several values, expected one: remove the others", shown(word))
            }
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => format!(
                "`{key}` = {} is more than a number, expected text in quotes: write {}",
                shown(word),
                self.quoted()
            ),
            _ => format!(
                "`{key}` = {} has no quotes, expected text in quotes: write {}",
                shown(word),
                self.quoted()
            ),
        }
    }

    /// The assignment with quotes around its value.
    fn quoted(&self) -> String {
        let word = self.value.split(',').next().unwrap_or("").trim().trim_matches(['"', '\'']);
        let word = word.replace('\\', "/");
        let word = if self.is_secret() { "...".to_owned() } else { shown(&word) };
        let (open, close) = if unquoted::takes_list(self.key) { ("[", "]") } else { ("", "") };
        format!("{} = {open}\"{word}\"{close}", shown(self.key))
    }

    fn broken_string(&self) -> String {
        let quote = if self.value.starts_with('\'') { '\'' } else { '"' };
        if self.is_secret() || self.value.contains(',') {
            return format!("the text is not closed, expected {quote} at its end: add it");
        }
        format!("the text is not closed, expected {quote} at its end: write {}", self.quoted())
    }

    fn invisible(&self) -> String {
        let c = self.line.chars().find(|c| c.is_control() && *c != '\t').map_or(0, u32::from);
        format!("an invisible character (U+{c:04X}) in this line, expected plain text: remove it")
    }

    fn broken_key(&self, trimmed: &str) -> String {
        let c = self.source.text()[floor(self.source.text(), self.at)..].chars().next().unwrap_or(' ');
        if trimmed.starts_with('{') {
            return "this looks like JSON, expected TOML, lines of `key = value` below a [table]: see config/minimal.toml".to_owned();
        }
        let names = trimmed.split('=').next().unwrap_or("");
        let is_foreign = trimmed.starts_with([';', '/', '<', '-']) || names.contains(':');
        if is_foreign && !trimmed.starts_with('[') {
            return no_equals(trimmed);
        }
        let (open, close) = match trimmed {
            t if t.starts_with("[[") => ("[[", "]]"),
            t if t.starts_with('[') => ("[", "]"),
            _ => ("", ""),
        };
        let name = names.trim_start_matches('[').split([']', '#', '{', '}']).next().unwrap_or("").trim();
        let fix = format!("{open}{}{close}", shown(&as_name(name)));
        format!(
            "'{}' in a name, expected only letters a to z, digits, '_' and '-': write {fix}",
            c.escape_debug()
        )
    }

    /// The same key or table twice.
    fn duplicate(&self) -> String {
        let is_header = self.line.trim_start().starts_with('[');
        let plain = |line: &str| line.split('#').next().unwrap_or("").split_whitespace().collect::<String>();
        let key_of = |line: &str| plain(line.split('=').next().unwrap_or(""));
        let (wanted, key) = (plain(self.line), key_of(self.line));
        let mut first = None;
        let mut end = self.start;
        for _ in 0..LINES_BACK_MAX {
            let Some(before) = end.checked_sub(1) else { break };
            let (start, line) = self.source.line_at(before);
            let is_other_header = line.trim_start().starts_with('[');
            if is_header && plain(line) == wanted
                || !is_header && !is_other_header && line.contains('=') && key_of(line) == key
            {
                first = Some(start);
                break;
            }
            if !is_header && is_other_header {
                break;
            }
            end = start;
        }
        let name = if is_header { shown(&wanted) } else { format!("`{}`", shown(self.name_at())) };
        let line = first
            .map_or_else(|| "further left".to_owned(), |at| format!("in line {}", self.source.place(at).0));
        let fix = if is_header { "rename or join them" } else { "remove one" };
        format!("{name} is here twice, first {line}, expected only once: {fix}")
    }

    /// The key that stands at the error.
    fn name_at(&self) -> &'a str {
        let rest = &self.source.text()[floor(self.source.text(), self.at)..];
        let rest = rest.trim_start_matches(['"', '\'']);
        &rest[..rest.find(|c: char| !(c.is_alphanumeric() || "_-".contains(c))).unwrap_or(rest.len())]
    }
}

/// Offset behind the last character that is meant, 0 when there is none.
fn after_last(text: &str, is_meant: impl Fn(char) -> bool) -> usize {
    text.char_indices().rev().find(|(_, c)| is_meant(*c)).map_or(0, |(at, c)| at + c.len_utf8())
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Two assignments without a comma or a line end between them.
fn two_in_one(line: &str) -> String {
    if line.contains('{') {
        return "a comma is missing, expected { key = value, key = value }: add it between the two"
            .to_owned();
    }
    "two `key = value` in one line, expected one: begin a new line".to_owned()
}

/// A line without '='.
fn no_equals(trimmed: &str) -> String {
    if trimmed.starts_with(';') || trimmed.starts_with("//") || trimmed.starts_with("--") {
        return "a comment begins with # in this file: write # instead".to_owned();
    }
    if trimmed.starts_with('<') {
        return "this looks like HTML or XML, expected TOML, lines of `key = value` below a [table]: is it the right file?".to_owned();
    }
    if let Some((key, rest)) = trimmed.split_once(':') {
        let key = key.trim().trim_matches('"');
        if rest.trim().is_empty() {
            return format!("`{}:` is the way of YAML, expected a table: write [{}]", shown(key), shown(key));
        }
        if !key.contains('=') {
            return format!(
                "`{}` is followed by ':', expected '=': write {} = {}",
                shown(key),
                shown(key),
                shown_value(trimmed, rest)
            );
        }
    }
    let name = trimmed.split('=').next().unwrap_or("").trim();
    if trimmed.contains('=') && name.contains(char::is_whitespace) {
        let joined = name.split_whitespace().collect::<Vec<_>>().join("_");
        return format!("the name `{}` holds a space, expected none: write {}", shown(name), shown(&joined));
    }
    let (name, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let fix = shown_value(trimmed, rest);
    format!("'=' is missing after `{}`, expected `key = value`: write {} = {fix}", shown(name), shown(name))
}

/// A value as it is repeated in a message: not when it may be a secret.
fn shown_value(line: &str, value: &str) -> String {
    let value = value.trim();
    if value.is_empty() || may_be_secret(line) { "...".to_owned() } else { shown(value) }
}

fn may_be_secret(line: &str) -> bool {
    let line = line.to_lowercase();
    ["password", "passwort", "secret", "token", "@"].iter().any(|word| line.contains(word))
}

/// `[bus.x` or `[bus.my bus]`.
fn broken_header(trimmed: &str) -> String {
    let inner = trimmed.trim_start_matches('[').split([']', '#']).next().unwrap_or("").trim();
    let brackets = if trimmed.starts_with("[[") { ("[[", "]]") } else { ("[", "]") };
    let joined = inner.split_whitespace().collect::<Vec<_>>().join("-");
    let what = if inner.contains(char::is_whitespace) {
        "the table's name holds a space"
    } else {
        "the table's name is not closed"
    };
    format!(
        "{what}, expected {}NAME{}: write {}{}{}",
        brackets.0,
        brackets.1,
        brackets.0,
        shown(&joined),
        brackets.1
    )
}
