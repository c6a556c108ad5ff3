//! What `check` advises is followed to the end: a person who writes what the message says must not be refused for it.
//!
//! Every file of `wrong/` in which a message says `write KEY = VALUE` is changed on that line as it says, and the line is right afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::Path;

use gateway_config::{Environment, Problem, parse};

/// Messages whose advice is an example to be filled in, or concerns another line.
const NOT_WHOLE: [&str; 9] =
    ["...", "for example", "as well", "below [", "for 16", "for the least", "such as", "lacks", "is missing"];

fn problems(text: &str) -> Vec<Problem> {
    match parse(text, "a.toml", Path::new("/nowhere"), &Environment::default()) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems.list,
    }
}

/// Key and value that a message advises, the first of several.
fn advice(text: &str) -> Option<(&str, &str)> {
    let advice = text.rsplit_once("write ")?.1;
    let (key, rest) = advice.split_once(" = ")?;
    if key.contains(' ') || NOT_WHOLE.iter().any(|mark| text.contains(mark)) {
        return None;
    }
    Some((key, &rest[..end_of_value(rest)]))
}

/// Where a value of TOML ends.
fn end_of_value(text: &str) -> usize {
    let (mut quoted, mut depth) = (false, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted && depth == 0 => return at,
            ']' | '}' if !quoted => depth -= 1,
            ',' | ' ' | '#' | ';' | ':' if !quoted && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// The line with the advice in place of the key that the message is about.
fn follow(line: &str, problem: &str, (key, value): (&str, &str)) -> Option<String> {
    let about = problem.strip_prefix('`')?.split('`').next()?;
    let start = line.find(&format!("{about} =")).or_else(|| line.find(&format!("{about}=")))?;
    let equals = start + line[start..].find('=')?;
    let written = line[equals + 1..].trim_start();
    let from = line.len() - written.len();
    let inline = line[..start].contains('{');
    let length = if inline { end_of_value(written) } else { written.split(" #").next()?.trim_end().len() };
    let mut fixed = format!("{}{key} = {value}{}", &line[..start], &line[from + length..]);
    if let Some((_, without)) = problem.split_once(" without ") {
        for gone in without.split('`').skip(1).step_by(2).take_while(|gone| *gone != "base") {
            if let Some(at) = fixed.find(&format!(", {gone} = ")) {
                let value = at + format!(", {gone} = ").len();
                let end = value + end_of_value(&fixed[value..]);
                fixed.replace_range(at..end, "");
            }
        }
    }
    Some(fixed)
}

/// The file up to a line, with that line alone of its poll group, whose device has base = 0.
fn with_base_zero(text: &str, line: usize) -> String {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("base =")).collect();
    let dropped = text.lines().take(line).filter(|line| line.starts_with("base =")).count();
    lines.truncate(line - dropped);
    let device = lines.iter().rposition(|line| line.starts_with("[device.")).expect("a device");
    lines.insert(device + 1, "base = 0");
    lines.join("\n")
}

#[test]
fn what_check_advises_passes_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let (mut followed, mut followed_otherwise, mut refused) = (0, 0, Vec::new());
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|kind| kind == "toml")) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for problem in problems(&text).iter().filter(|problem| problem.severity.is_error()) {
            let Some(said) = advice(&problem.text) else { continue };
            let mut lines: Vec<&str> = text.lines().collect();
            let at = problem.line as usize - 1;
            let Some(fixed) = follow(lines[at], &problem.text, said) else { continue };
            lines[at] = &fixed;
            followed += 1;
            let left = problems(&lines.join("\n"));
            let about = problem.text.split('`').nth(1).unwrap();
            let same = |left: &&Problem| {
                // What is missing beside it is another matter.
                !left.text.contains("means nothing without")
                    && left.line == problem.line
                    && left.severity.is_error()
                    && left.text.contains(&format!("`{about}`"))
            };
            if let Some(left) = left.iter().find(same) {
                refused.push(format!("{}: {}\n  {fixed}\n  {}", path.display(), problem.text, left.text));
            }
            // The other way that it offers, with the line as it is.
            if problem.text.contains(", or base = 0 in the device") {
                followed_otherwise += 1;
                let left = problems(&with_base_zero(&text, problem.line as usize));
                if let Some(left) = left
                    .iter()
                    .find(|left| left.text.contains(&format!("`{about}`")) && left.severity.is_error())
                {
                    refused.push(format!(
                        "{}: {}\n  base = 0\n  {}",
                        path.display(),
                        problem.text,
                        left.text
                    ));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(followed >= 30, "only {followed} advices were followed");
    assert!(followed_otherwise >= 4, "only {followed_otherwise} second advices were followed");
}

fn meter(base: i64, tag: &str) -> String {
    format!(
        "[gateway]\nid = \"g\"\n[uplink.cloud]\nurl = \"mqtts://broker.example.com\"\n[bus.a]\ndriver = \"sim\"\n\
         [device.m]\nbus = \"a\"\nunit = 1\nbase = {base}\n[[device.m.poll]]\nevery = \"1s\"\ntags.t = {{ {tag} }}\n"
    )
}

#[test]
fn the_advice_for_40011_is_taken_in_every_table_and_base() {
    for base in [1] {
        for tag in [
            "holding = 40011, type = \"u16\"",
            "input = 40011, type = \"f32\"",
            "holding = 30011, type = \"u16\"",
            "holding = 10011, type = \"u16\"",
            "input = 10011, type = \"bit\", bit = 3",
            "discrete = 10011",
            "coil = 10011",
            "coil = 40011",
            "discrete = 400011",
            "holding = 400011, type = \"u16\"",
            "holding = 465536, type = \"u16\"",
        ] {
            let text = meter(base, tag);
            let wrong = problems(&text);
            let wrong = wrong.iter().find(|problem| problem.severity.is_error()).expect("refused");
            let (_, said) = wrong.text.rsplit_once("write ").unwrap();
            let (key, rest) = said.split_once(" = ").unwrap();
            let value = rest.split([',', ' ']).next().unwrap();
            let keeps_type = !said.contains(" without ") && !said.contains(" with the type");
            let kind = match tag.split_once(", ") {
                _ if said.contains(" with the type") => ", type = \"u16\"".to_owned(),
                Some((_, kind)) if keeps_type => format!(", {kind}"),
                _ => String::new(),
            };
            let left = problems(&meter(base, &format!("{key} = {value}{kind}")));
            assert!(!left.iter().any(|left| left.severity.is_error()), "{}\n{left:?}", wrong.text);
            let is_address = !["400011", "465536"].iter().any(|number| tag.contains(number));
            assert_eq!(said.contains("or base = 0 in the device"), is_address, "{}", wrong.text);
        }
    }
}

#[test]
fn addresses_in_a_message_are_counted_as_the_file_counts_them() {
    let tags = "a = { holding = 10, type = \"u32\" }, b = { holding = 11, type = \"u32\" }";
    for (base, place) in [(0, "holding registers 11 to 12"), (1, "holding registers 11 to 12")] {
        let text = meter(base, "").replace("tags.t = {  }", &format!("tags = {{ {tags} }}"));
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.text.contains(place)), "base {base}: {found:?}");
    }
}

#[test]
fn an_unknown_word_gets_a_suggestion_only_when_it_is_a_slip() {
    let said = |key: &str| {
        let text = meter(0, &format!("holding = 0, type = \"u16\", {key} = 1"));
        problems(&text).iter().map(|problem| problem.text.clone()).collect::<Vec<_>>().join("\n")
    };
    for key in ["map", "mix", "bus", "not", "zero", "xscale"] {
        assert!(
            !said(key).contains("did you mean `max`") && !said(key).contains("did you mean `min`"),
            "{}",
            said(key)
        );
    }
    assert!(said("map").contains("numbers are sent as they are"), "{}", said("map"));
    for (key, meant) in
        [("mxa", "max"), ("scal", "scale"), ("ofset", "offset"), ("dedband", "deadband"), ("mi", "min")]
    {
        assert!(said(key).contains(&format!("did you mean `{meant}`")), "{}", said(key));
    }
}

#[test]
fn a_number_without_a_unit_gets_every_unit_that_it_may_have() {
    let text = meter(0, "holding = 0, type = \"u16\"").replace("every = \"1s\"", "every = 7");
    let found = problems(&text);
    let said = &found.iter().find(|problem| problem.severity.is_error()).unwrap().text;
    assert!(said.contains("write every = \"7s\""), "{said}");
    let broker =
        format!("{}[broker]\n[broker.limits]\npacket_max = 256\n", meter(0, "holding = 0, type = \"u16\""));
    let found = problems(&broker);
    let said = &found.iter().find(|problem| problem.severity.is_error()).unwrap().text;
    assert!(said.contains("\"256kB\""), "{said}");
}

#[test]
fn a_forward_rule_that_puts_messages_on_topics_of_the_gateway_itself_is_warned_of() {
    let with = |rule: &str| {
        let url = "url = \"mqtts://broker.example.com\"";
        let text =
            meter(0, "holding = 0, type = \"u16\"").replace(url, &format!("{url}\nforward = [{rule}]"));
        problems(&text).iter().map(|problem| problem.text.clone()).collect::<Vec<_>>().join("\n")
    };
    let warning = "puts messages on topics on which this gateway itself sends";
    let onto = with("{ filter = \"sensors/#\", strip = \"sensors/\", add = \"g/\" }");
    assert!(onto.contains(warning), "{onto}");
    for beside in ["{ filter = \"sensors/#\", add = \"plant/\" }", "\"#\""] {
        let said = with(beside);
        assert!(!said.contains(warning), "{said}");
    }
}
