//! What the TOML parser says, in the words of somebody who has never heard of TOML.

use toml::de::Error;

use crate::problem::Findings;
use crate::source::Source;

/// Reports one error of the parser.
pub(crate) fn report(source: &Source<'_>, error: &Error, found: &Findings<'_>) {
    let at = error.span().map_or(0, |span| span.start);
    let (_, line) = source.line_at(at);
    found.syntax(
        at,
        format!("this is not TOML: {} in: {}", error.message(), crate::words::shown(line.trim())),
    );
}
