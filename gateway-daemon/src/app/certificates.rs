//! Certificates that this gateway shows, to servers and to clients: when they end, and what is told of it.
//!
//! ```text
//! files --a task, every hour--> Shown --Told: wall time that can be believed--> a line in the log, once for each term
//!                                  `--> snapshot: status, troubles;  metrics
//! ```
//! The files are read again because a renewed certificate comes into use without a restart. An ended one stops nothing here: the other side may not look, its
//! clock may be wrong as well, and readings are collected all the same. Bounds: one for each uplink and each listener.
//! Never: judges by a clock that cannot be believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_certificates as files;
use gateway_config::{Config, Problem, Severity};
use gateway_core::settings::certificate::{Certificate, Span, Term};
use gateway_core::tag::WallMs;
use tokio::sync::watch;

use super::clocks::Unknown;
use super::snapshot;

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(3600);
/// From so many days before its end on a certificate is wrong, before that it is worth knowing.
const URGENT_DAYS: u64 = 7;

/// A file in which the configuration has a certificate of this gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Who shows it: `uplink` or `listener`.
    pub(super) room: &'static str,
    /// The name of the one who does.
    pub(super) name: String,
    /// The key of the configuration.
    key: &'static str,
    path: PathBuf,
}

/// A certificate as it is in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) place: Place,
    span: Span,
}

/// Every certificate that a configuration shows.
fn places(config: &Config) -> Vec<Place> {
    let uplinks = config.uplinks.iter().filter_map(|(settings, link)| {
        // All servers of an uplink are shown the same one.
        let mut others = link.others.iter().filter_map(|server| server.tls.as_ref());
        let (path, _) = link.tls.as_ref().or_else(|| others.next())?.client.clone()?;
        Some(Place { room: "uplink", name: settings.name.to_string(), key: "client_cert", path })
    });
    let listeners = config.broker.iter().flat_map(|broker| &broker.listeners).filter_map(|listener| {
        let path = listener.tls.as_ref()?.cert.clone();
        Some(Place { room: "listener", name: listener.name.to_string(), key: "cert", path })
    });
    uplinks.chain(listeners).collect()
}

/// Reads the files; one that cannot be read or understood is told of elsewhere.
fn read(places: &[Place]) -> Vec<Shown> {
    let shown = |place: &Place| Some(Shown { place: place.clone(), span: span(&place.path)? });
    places.iter().filter_map(shown).collect()
}

fn span(path: &Path) -> Option<Span> {
    let chain = files::chain(&files::read(path).ok()?).ok()?;
    let chain: Option<Vec<_>> = chain.iter().map(|der| Certificate::read(der)).collect();
    Span::of(&chain?)
}

/// Certificates of a running gateway.
#[derive(Debug)]
pub(super) struct Certificates {
    places: Vec<Place>,
    read: watch::Receiver<Arc<Vec<Shown>>>,
    /// As they were read last.
    shown: Arc<Vec<Shown>>,
    told: Told,
}

impl Certificates {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let places = places(config);
        let read = watch(places.clone());
        Self { places, read, shown: Arc::default(), told: Told::default() }
    }

    /// Those of a changed configuration; what was told of one that stays is not told again.
    pub(super) fn replace(&mut self, config: &Config) {
        let places = places(config);
        if places != self.places {
            self.read = watch(places.clone());
            self.places = places;
        }
    }

    /// Looks at what was read, and tells the log what has changed since; without a wall time nothing can be told.
    pub(super) fn observe(&mut self, now_s: Option<u64>) {
        if self.read.has_changed().unwrap_or(false) {
            self.shown = Arc::clone(&self.read.borrow_and_update());
        }
        if let Some(now_s) = now_s {
            self.told.tell(&self.shown, now_s);
        }
    }

    /// As they were read last.
    pub(super) fn shown(&self) -> &[Shown] {
        &self.shown
    }
}

/// Reads the files from here on, until nobody wants to know.
fn watch(places: Vec<Place>) -> watch::Receiver<Arc<Vec<Shown>>> {
    let (tell, told) = watch::channel(Arc::default());
    tokio::spawn(async move {
        let places = Arc::new(places);
        loop {
            let wanted = Arc::clone(&places);
            if let Ok(fresh) = tokio::task::spawn_blocking(move || read(&wanted)).await {
                tell.send_replace(Arc::new(fresh));
            }
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    });
    told
}

/// What was told of which certificate, so that it is told once, whatever is reloaded.
#[derive(Debug, Default)]
struct Told(BTreeMap<Place, (Term, u64)>);

impl Told {
    /// What has changed: certificates whose term is another, fine ones only after they were not.
    fn news<'a>(&mut self, shown: &'a [Shown], now_s: u64) -> Vec<(&'a Shown, Term)> {
        let mut news = Vec::new();
        for shown in shown {
            let (term, ends) = (shown.span.term(now_s), shown.span.ends.seconds);
            let before = self.0.insert(shown.place.clone(), (term, ends));
            let is_news = match before {
                None => term != Term::Fine,
                Some((before, before_ends)) => before != term || term != Term::Fine && before_ends != ends,
            };
            if is_news {
                news.push((shown, term));
            }
        }
        // Bounded by what is shown; one that comes back is told again.
        self.0.retain(|place, _| shown.iter().any(|shown| shown.place == *place));
        news
    }

    /// Tells the log what has changed.
    fn tell(&mut self, shown: &[Shown], now_s: u64) {
        for (shown, term) in self.news(shown, now_s) {
            let Shown { place: Place { room, name, key, path }, span } = shown;
            let path = path.display();
            match span.remark(term) {
                None => {
                    log::info!(reason = "certificate"; "{room} {name}: `{key}` = {path} is renewed and ends on {}", span.ends.date())
                }
                Some(remark) if term == Term::Ended => {
                    log::error!(reason = "certificate"; "{room} {name}: `{key}` = {path} {remark}")
                }
                Some(remark) => {
                    log::warn!(reason = "certificate"; "{room} {name}: `{key}` = {path} {remark}")
                }
            }
        }
    }
}

/// What of them has to be told, for `check` and for provisioning. Without a clock that can be believed that is what was not judged, and what ended before the
/// system was built.
pub(super) fn warnings(config: &Config, now: Result<WallMs, Unknown>) -> Vec<Problem> {
    let warning = |shown: Shown| {
        let remark = match now {
            Ok(now) => shown.span.remark(shown.span.term(seconds(now)?)),
            Err(unknown) => Some(unjudged(&shown.span, unknown)),
        }?;
        let Place { room, name, key, path } = shown.place;
        Some(Problem {
            severity: Severity::Warning,
            file: path.display().to_string().into(),
            line: 1,
            column: 1,
            text: format!("`{key}` of {room} `{name}` {remark}"),
        })
    };
    read(&places(config)).into_iter().filter_map(warning).collect()
}

/// What can be said of a certificate without a clock.
fn unjudged(span: &Span, unknown: Unknown) -> String {
    let ended = seconds(unknown.since).map(|since| span.term(since)).filter(|term| *term == Term::Ended);
    match ended.and_then(|term| span.remark(term)) {
        Some(remark) => remark,
        None => format!(
            "ends on {}; whether that day has passed is not judged: no clock can be believed yet ({})",
            span.ends.date(),
            unknown.doubt
        ),
    }
}

/// Whole seconds since 1970.
pub(super) fn seconds(wall: WallMs) -> Option<u64> {
    u64::try_from(wall.0.div_euclid(1000)).ok()
}

/// Seconds until a certificate ends, or since it ended.
pub(super) fn left_s(shown: &Shown, now_s: u64) -> i64 {
    let bounded = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    bounded(shown.span.ends.seconds).saturating_sub(bounded(now_s))
}

/// A certificate as part of the whole picture; without `now_s` nobody knows how long it lasts.
pub(super) fn picture(shown: &Shown, now_s: Option<u64>) -> snapshot::Certificate {
    let Place { room, name, key, path } = &shown.place;
    snapshot::Certificate {
        room: (*room).to_owned(),
        name: name.clone(),
        key: (*key).to_owned(),
        path: path.display().to_string(),
        ends: shown.span.ends.date(),
        left_s: now_s.map(|now_s| left_s(shown, now_s)),
        remark: now_s.and_then(|now_s| shown.span.remark(shown.span.term(now_s))),
        urgent: now_s.is_some_and(|now_s| match shown.span.term(now_s) {
            Term::Fine => false,
            Term::Within(days) => days <= URGENT_DAYS,
            Term::NotYet | Term::Ended => true,
        }),
    }
}

#[cfg(test)]
mod tests;
