//! Kconfig files: what a fragment asks for, and what of it a built configuration does not have.
//!
//! Kconfig drops an option whose dependencies are missing without a word. A gateway would then lack a driver, or a line of a sandbox would do
//! nothing, and nobody would notice before it matters.

/// An option and the value that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    name: &'a str,
    /// None: not set.
    value: Option<&'a str>,
}

/// The options that a text sets or unsets, in its order; the last word on an option counts.
pub(super) fn asked(text: &str) -> Vec<Asked<'_>> {
    let mut all: Vec<Asked<'_>> = Vec::new();
    for asked in text.lines().filter_map(parse) {
        all.retain(|other| other.name != asked.name);
        all.push(asked);
    }
    all
}

fn parse(line: &str) -> Option<Asked<'_>> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return Some(Asked { name, value: None });
    }
    let (name, value) = line.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // `=n` in a fragment is the same as not set.
    is_name.then_some(Asked { name, value: (value != "n").then_some(value) })
}

/// One sentence for each option that is not as asked for.
pub(super) fn lost(wanted: &str, built: &str) -> Vec<String> {
    let built = asked(built);
    let found = |name: &str| built.iter().rfind(|option| option.name == name).and_then(|option| option.value);
    let complain = |option: Asked<'_>| {
        let is = found(option.name);
        // A driver that was asked for as a module and is built in is there all the same.
        let more = option.value == Some("m") && is == Some("y");
        (is != option.value && !more).then(|| {
            let show = |value: Option<&str>| value.map_or("not set".to_owned(), |value| format!("={value}"));
            format!("{}: asked for {}, built {}", option.name, show(option.value), show(is))
        })
    };
    asked(wanted).into_iter().filter_map(complain).collect()
}

#[cfg(test)]
mod tests {
    use super::lost;

    const BUILT: &str = "# comment\nCONFIG_A=y\nCONFIG_M=m\n# CONFIG_OFF is not set\nCONFIG_TEXT=\"a b\"\n";

    #[test]
    fn what_was_asked_for_and_is_there_is_no_complaint() {
        let wanted = "# why\nCONFIG_A=y\nCONFIG_M=m\nCONFIG_TEXT=\"a b\"\n# CONFIG_OFF is not set\n# CONFIG_UNKNOWN is not set\n";
        assert_eq!(lost(wanted, BUILT), [""; 0]);
    }

    #[test]
    fn every_option_that_kconfig_dropped_is_named() {
        let wanted = "CONFIG_B=y\nCONFIG_OFF=m\nCONFIG_M=y\nCONFIG_TEXT=\"c\"\n# CONFIG_A is not set\n";
        let expected = [
            "CONFIG_B: asked for =y, built not set",
            "CONFIG_OFF: asked for =m, built not set",
            "CONFIG_M: asked for =y, built =m",
            "CONFIG_TEXT: asked for =\"c\", built =\"a b\"",
            "CONFIG_A: asked for not set, built =y",
        ];
        assert_eq!(lost(wanted, BUILT), expected);
    }

    #[test]
    fn a_module_may_be_built_in() {
        assert_eq!(lost("CONFIG_A=m\n", BUILT), [""; 0]);
    }

    #[test]
    fn the_last_word_on_an_option_counts() {
        assert_eq!(lost("CONFIG_A=n\nCONFIG_A=y\n", BUILT), [""; 0]);
        assert_eq!(lost("CONFIG_A=y\nCONFIG_A=n\n", BUILT), ["CONFIG_A: asked for not set, built =y"]);
    }
}
