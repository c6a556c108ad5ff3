//! `status` and `tags`: the running gateway on a terminal, once or live.

use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::client::{self, NoAnswer, exchange, socket};
use super::control::{Ask, Reply};
use super::picture::{self, within};
use super::report::{self, Report};
use super::snapshot::{Snapshot, Tag};
use super::terminal::events::{Event, Events, Key};
use super::terminal::screen::Screen;
use super::troubles::troubles;
use super::{near, say, terminal};
use crate::cli::{self, exit};

/// How often a live picture is drawn again.
const REDRAW_EVERY: Duration = Duration::from_secs(1);
/// So many looks one after the other may find no place at the gateway before a picture ends that would be too old.
const BUSY_LOOKS_MAX: u32 = 10;

/// `status`: the exit code.
#[must_use]
pub fn status(args: &cli::Status) -> u8 {
    if args.metrics {
        return client::converse(&args.reach, &[Ask::Metrics], false);
    }
    let socket = match socket(&args.reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    if args.watch {
        return live(&socket, &Status);
    }
    let snapshot = match look(&socket) {
        Ok(snapshot) => snapshot,
        // Whatever keeps it from answering is no verdict; a gateway that is busy is none that is dead.
        Err(code) if args.check && code != exit::BUSY => return exit::UNAVAILABLE,
        Err(code) => return code,
    };
    if args.check {
        return check(&snapshot, args.json);
    }
    if args.json {
        say::json_page(&report::status(&snapshot));
    } else {
        say::text(&picture::status(&snapshot, terminal::paper()));
    }
    exit::OK
}

/// `status --check`: the verdict and what is wrong, and whether it is good as the exit code.
fn check(snapshot: &Snapshot, json: bool) -> u8 {
    let report = Report::of(snapshot);
    if json {
        say::json_page(&serde_json::json!(report));
    } else {
        let paper = terminal::paper();
        say::text(&paper.wrap(&picture::verdict::wrong(&troubles(snapshot), paper.ink)));
    }
    if report.well { exit::OK } else { exit::NO }
}

/// `tags`: the exit code. Live on a terminal, once into a pipe.
#[must_use]
pub fn tags(args: &cli::Tags) -> u8 {
    let socket = match socket(&args.reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    if args.watch || !args.once && !args.json && terminal::can_draw() {
        return live(&socket, &Tags { only: &args.only });
    }
    let snapshot = match look(&socket) {
        Ok(snapshot) => snapshot,
        Err(code) => return code,
    };
    let chosen = match near::chosen(&snapshot.tags, &args.only) {
        Ok(chosen) => chosen,
        Err(unknown) => return refused(&unknown),
    };
    if args.json {
        say::json_page(&serde_json::json!({ "tags": chosen }));
    } else {
        say::text(&picture::tags(&chosen, terminal::paper()));
    }
    exit::OK
}

fn refused(sentences: &[String]) -> u8 {
    sentences.iter().for_each(say::error);
    exit::NO
}

/// The picture of the running gateway at this moment.
fn look(socket: &Path) -> Result<Snapshot, u8> {
    taken(exchange(socket, &[Ask::Status])?.pop())
}

fn taken(reply: Option<Reply>) -> Result<Snapshot, u8> {
    match reply {
        Some(Reply::Status(snapshot)) => Ok(*snapshot),
        Some(Reply::Refused(why)) => {
            say::error(why);
            Err(exit::NO)
        }
        _ => {
            say::error("the gateway is of another version than this command");
            Err(exit::IO)
        }
    }
}

/// Something that is shown live.
trait Live {
    /// The picture within a terminal of this size, scrolled to a row; and the row that it begins with.
    ///
    /// # Errors
    /// A sentence for each name that there is not.
    fn within(
        &self,
        snapshot: &Snapshot,
        screen: &Screen,
        first: usize,
    ) -> Result<(String, usize), Vec<String>>;

    /// The whole as text for a pipe, or a terminal that cannot be drawn on.
    ///
    /// # Errors
    /// A sentence for each name that there is not.
    fn whole(&self, snapshot: &Snapshot) -> Result<String, Vec<String>>;
}

struct Status;

impl Live for Status {
    fn within(&self, snapshot: &Snapshot, screen: &Screen, _: usize) -> Result<(String, usize), Vec<String>> {
        Ok((within::status(snapshot, screen.ink(), screen.size()), 0))
    }

    fn whole(&self, snapshot: &Snapshot) -> Result<String, Vec<String>> {
        Ok(picture::status(snapshot, terminal::paper()))
    }
}

struct Tags<'a> {
    only: &'a [String],
}

impl Tags<'_> {
    fn chosen<'t>(&self, snapshot: &'t Snapshot) -> Result<Vec<&'t Tag>, Vec<String>> {
        near::chosen(&snapshot.tags, self.only)
    }
}

impl Live for Tags<'_> {
    fn within(
        &self,
        snapshot: &Snapshot,
        screen: &Screen,
        first: usize,
    ) -> Result<(String, usize), Vec<String>> {
        Ok(within::tags(&self.chosen(snapshot)?, screen.ink(), screen.size(), first))
    }

    fn whole(&self, snapshot: &Snapshot) -> Result<String, Vec<String>> {
        Ok(picture::tags(&self.chosen(snapshot)?, terminal::paper()))
    }
}

/// Shows it again and again, until `q` or Ctrl-C; the exit code.
fn live(socket: &Path, what: &dyn Live) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| runtime.block_on(show(socket, what)));
    ended.unwrap_or_else(|fault| {
        say::error(fault);
        exit::IO
    })
}

async fn show(socket: &Path, what: &dyn Live) -> std::io::Result<u8> {
    let mut events = Events::new()?;
    let mut screen = Screen::new();
    let mut ticks = interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first: usize = 0;
    let mut seen: Option<Snapshot> = None;
    let mut busy: u32 = 0;
    loop {
        let event = tokio::select! {
            event = events.next() => Some(event),
            _ = ticks.tick() => None,
        };
        match event {
            None => match client::ask_all(socket, &[Ask::Status]).await {
                Ok(mut replies) => match replies.pop() {
                    Some(Reply::Status(snapshot)) => {
                        busy = 0;
                        seen = Some(*snapshot);
                    }
                    other => {
                        drop(screen);
                        return Ok(taken(other).err().unwrap_or(exit::IO));
                    }
                },
                // The next look may find a place.
                Err(NoAnswer::Busy(_)) if seen.is_some() && busy < BUSY_LOOKS_MAX => {
                    busy += 1;
                    continue;
                }
                Err(fault) => {
                    drop(screen);
                    return Ok(fault.told());
                }
            },
            Some(Event::Stop | Event::Gone | Event::Key(Key::Quit)) => return Ok(exit::OK),
            Some(Event::Resized) => {}
            Some(Event::Key(key)) => first = scrolled(first, key, screen.size().1.saturating_sub(2)),
        }
        let Some(snapshot) = &seen else { continue };
        let shown = if screen.can_draw() {
            what.within(snapshot, &screen, first).map(|(picture, row)| {
                first = row;
                screen.draw(&picture)
            })
        } else if event.is_none() {
            what.whole(snapshot).map(|text| screen.say(&text))
        } else {
            continue;
        };
        match shown {
            Ok(true) => {}
            // Nobody looks any more.
            Ok(false) => return Ok(exit::OK),
            Err(unknown) => {
                drop(screen);
                return Ok(refused(&unknown));
            }
        }
    }
}

fn scrolled(first: usize, key: Key, page: usize) -> usize {
    match key {
        Key::Quit => first,
        Key::Down => first.saturating_add(1),
        Key::Up => first.saturating_sub(1),
        Key::PageDown => first.saturating_add(page),
        Key::PageUp => first.saturating_sub(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_scroll_by_lines_and_by_pages_and_not_above_the_beginning() {
        for (first, key, wanted) in [
            (5, Key::Down, 6),
            (5, Key::Up, 4),
            (0, Key::Up, 0),
            (5, Key::PageDown, 27),
            (5, Key::PageUp, 0),
            (usize::MAX, Key::PageDown, usize::MAX),
        ] {
            assert_eq!(scrolled(first, key, 22), wanted, "{first} {key:?}");
        }
    }
}
