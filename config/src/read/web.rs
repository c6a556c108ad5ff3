//! Which web pages may connect to a WebSocket, and by which names it may be called.

use gateway_core::settings::web;

use super::Context;
use crate::reader::Reader;
use crate::words;

/// Most entries of a list.
const ENTRIES_MAX: usize = 64;

/// `origins`; `None` means that something was reported.
pub(crate) fn origins(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<String>> {
    let expected = "expected such as \"https://panel.example\" or \"http://192.168.1.20:8080\", without a path, or \"null\" for pages from files";
    list(cx, reader, "origins", expected, web::origin)
}

/// `hosts`.
pub(crate) fn hosts(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, tls: bool) -> Option<Vec<String>> {
    let expected = "expected such as \"gateway.local\", with :PORT when it is not the usual one (80, with TLS 443), without https:// and path";
    list(cx, reader, "hosts", expected, |text| web::host(text, tls))
}

/// Both mean nothing without a WebSocket.
pub(crate) fn refuse_without(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) {
    for key in ["origins", "hosts"].into_iter().filter(|key| reader.has(key)) {
        let text = format!(
            "`{key}` means nothing without `websocket`, expected beside it: add websocket = true or remove `{key}`"
        );
        cx.found.misfit(&reader.key_at(key), text);
    }
}

fn list(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    expected: &str,
    form: impl Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    if reader.lacks(key) {
        return Some(Vec::new());
    }
    let texts = reader.texts(key)?;
    if texts.is_empty() || reader.written(key) > ENTRIES_MAX {
        let text = format!(
            "`{key}` has {} entries, expected 1 to {ENTRIES_MAX}: remove the key to ask nobody",
            reader.written(key)
        );
        cx.found.wrong(&reader.at(key), text);
        return None;
    }
    let mut list = Vec::with_capacity(texts.len());
    let mut whole = true;
    for (text, span) in &texts {
        match form(text) {
            Some(entry) => list.push(entry),
            None => {
                cx.found.wrong(span, format!("`{key}` has \"{}\", {expected}", words::shown(text)));
                whole = false;
            }
        }
    }
    whole.then_some(list)
}
