//! Names that there are not: what was probably meant, and what there is.

use gateway_core::tag::NAME_LEN_MAX;

use super::snapshot::Tag;

/// A sentence with more names helps nobody.
const NAMES_MAX: usize = 12;
/// Names that are compared with a mistyped one: what a person can have mistyped, and no more than the core loop has time for.
const COMPARED_MAX: usize = 1000;

/// The end of a sentence that says that there is no such name: `did you mean boiler?`, or `there are: boiler, press`.
pub(super) fn instead<'n>(
    asked: &str,
    known: impl Iterator<Item = &'n str> + Clone,
    there_are: &str,
) -> String {
    if let Some(near) = nearest(asked, known.clone()) {
        return format!("did you mean {near}?");
    }
    let names: Vec<&str> = known.clone().take(NAMES_MAX).collect();
    if names.is_empty() {
        return "there is none".to_owned();
    }
    let more = match known.skip(NAMES_MAX).count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{there_are}: {}{more}", names.join(", "))
}

/// The name that is nearly the same, or else the only one that begins so.
pub(super) fn nearest<'n>(asked: &str, known: impl Iterator<Item = &'n str> + Clone) -> Option<&'n str> {
    if asked.is_empty() || asked.len() > NAME_LEN_MAX {
        return None;
    }
    let mut begins = known.clone().filter(|name| name.starts_with(asked));
    let only = begins.next().filter(|_| begins.next().is_none());
    // Names of strangers may be of any length.
    let alike = |name: &&str| name.len().abs_diff(asked.len()) <= NAME_LEN_MAX / 3;
    gateway_config::nearest_name(asked, known.take(COMPARED_MAX).filter(alike)).or(only)
}

/// The tags that are asked for, each by `device` or `device/tag`; without names all.
///
/// # Errors
/// A sentence for each name that there is not.
pub(super) fn chosen<'t>(tags: &'t [Tag], only: &[String]) -> Result<Vec<&'t Tag>, Vec<String>> {
    let means = |name: &str, tag: &Tag| match name.split_once('/') {
        Some((device, own)) => tag.device == device && tag.tag == own,
        None => tag.device == name,
    };
    let unknown = only.iter().filter(|name| !tags.iter().any(|tag| means(name, tag)));
    let unknown: Vec<String> = unknown.map(|name| no_such(tags, name)).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(tags.iter().filter(|tag| only.is_empty() || only.iter().any(|name| means(name, tag))).collect())
}

fn no_such(tags: &[Tag], name: &str) -> String {
    let mut devices: Vec<&str> = tags.iter().map(|tag| tag.device.as_str()).collect();
    devices.dedup();
    match name.split_once('/') {
        Some((device, own)) if devices.contains(&device) => {
            let own_tags = tags.iter().filter(|tag| tag.device == device).map(|tag| tag.tag.as_str());
            format!("{device} has no tag {own:?}; {}", instead(own, own_tags, "it has"))
        }
        Some((device, _)) => {
            format!("no device {device:?}; {}", instead(device, devices.iter().copied(), "there are"))
        }
        None => match tags.iter().find(|tag| tag.tag == name) {
            Some(tag) => format!("no device {name:?}; did you mean {}/{name}?", tag.device),
            None => format!("no device {name:?}; {}", instead(name, devices.iter().copied(), "there are")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> Vec<Tag> {
        let tag =
            |(device, tag): (&str, &str)| Tag { device: device.into(), tag: tag.into(), ..Tag::default() };
        [("meter1", "voltage"), ("meter1", "energy"), ("boiler", "setpoint"), ("io", "pump")].map(tag).into()
    }

    fn names(only: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        let tags = tags();
        chosen(&tags, &only)
            .map(|tags| tags.iter().map(|tag| format!("{}/{}", tag.device, tag.tag)).collect())
    }

    #[test]
    fn tags_are_chosen_by_device_and_by_name_in_the_order_of_the_configuration() {
        assert_eq!(names(&[]).unwrap().len(), 4);
        assert_eq!(names(&["io", "meter1/energy"]).unwrap(), ["meter1/energy", "io/pump"]);
    }

    #[test]
    fn each_name_that_there_is_not_is_told_with_what_is_near() {
        for (asked, sentence) in [
            ("nope", "no device \"nope\"; there are: meter1, boiler, io"),
            ("meter", "no device \"meter\"; did you mean meter1?"),
            ("boler/setpoint", "no device \"boler\"; did you mean boiler?"),
            ("boiler/setpiont", "boiler has no tag \"setpiont\"; did you mean setpoint?"),
            ("boiler/set", "boiler has no tag \"set\"; did you mean setpoint?"),
            ("meter1/relay", "meter1 has no tag \"relay\"; it has: voltage, energy"),
            ("pump", "no device \"pump\"; did you mean io/pump?"),
            ("", "no device \"\"; there are: meter1, boiler, io"),
        ] {
            assert_eq!(names(&["io", asked]), Err(vec![sentence.to_owned()]), "{asked}");
        }
        assert_eq!(names(&["a-b", "c-d"]).unwrap_err().len(), 2);
    }

    #[test]
    fn a_list_of_names_is_bounded_and_a_long_name_is_compared_with_nothing() {
        let many: Vec<String> = (0..20).map(|number| format!("plc{number:02}")).collect();
        let known = || many.iter().map(String::as_str);
        assert!(instead("xyz", known(), "there are").ends_with("plc11 and 8 more"));
        assert!(instead(&"plc00".repeat(1000), known(), "there are").starts_with("there are: plc00"));
        assert_eq!(instead("x", [].into_iter(), "there are"), "there is none");
    }
}
