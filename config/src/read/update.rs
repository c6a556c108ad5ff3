//! `[update]`.

use gateway_core::update::settings::Settings;

use super::Context;
use super::uplink::Uplink;
use crate::reader::Reader;
use crate::words;

/// Who may command updates; `None` without its table, and when something of it is wrong.
pub(crate) fn update<'a, 't>(
    cx: &Context<'a, 't>,
    file: &Reader<'a, 't>,
    gateway: Option<&str>,
    uplinks: &[Uplink],
) -> Option<Settings> {
    let reader = file.table("update")?;
    let (uplink, socket) = (reader.name("uplink"), reader.text("socket"));
    let allow_http = reader.bool("allow_http");
    if let Some(name) = uplink.as_ref().filter(|name| !uplinks.iter().any(|up| up.settings.name == **name)) {
        // An uplink that is there and wrong is reported where it stands.
        let misspelt = !file.has("uplink") && !file.lacks("uplink");
        if !file.has_raw("uplink", name.as_str()) && !misspelt {
            let names = || uplinks.iter().map(|up| up.settings.name.as_str());
            let fix = match words::nearest_name(name.as_str(), names()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("correct it or add [uplink.{name}]"),
            };
            cx.found
                .misfit(&reader.at("uplink"), format!("there is no uplink \"{name}\" in this file: {fix}"));
        }
        return None;
    }
    if allow_http == Some(true) {
        let text = "whoever listens on the way sees which update comes, and can hold it up: use https:// URLs and remove `allow_http` where you can";
        cx.found.warn(&reader.at("allow_http"), text);
    }
    Some(Settings::of(gateway?, uplink?, allow_http?, cx.base.join(socket?)))
}
