//! `[update]`.

use super::{Kind, Section, key};

/// `[update]`.
pub(crate) static UPDATE: Section = Section {
    title: "[update]",
    doc: "Lets a cloud command updates of the whole system: by a message such as {\"url\":\"https://example.com/update.raucb\",\"id\":\"42\"} on \
          `{gateway}/update/install`; how it goes is told on `{gateway}/update`. Without this table no cloud can. docs/update.md is the guide.",
    keys: &[
        key("uplink", Kind::Name, "The uplink that may command updates; messages of any other are not heard.").required(),
        key(
            "allow_http",
            Kind::Bool,
            "Whether URLs may begin with http://, too. Bundles are signed, so nothing else can be installed; but who listens sees what is.",
        )
        .or("false"),
        key("socket", Kind::Path, "Socket of the update agent.").or("\"/run/tidegate-update.sock\""),
    ],
    aliases: &[("cloud", "uplink"), ("from", "uplink"), ("http", "allow_http"), ("agent", "socket")],
    refused: &[
        ("url", "the URL comes with the command, on the topic {gateway}/update/install"),
        ("topic", "the topics are {gateway}/update/install and {gateway}/update: remove it"),
        ("key", "who may sign is part of the image, not of the configuration: see docs/update.md"),
        ("keyring", "who may sign is part of the image, not of the configuration: see docs/update.md"),
    ],
};
