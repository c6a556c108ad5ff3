//! Pictures that fit a terminal in both directions, for commands that draw them again and again.
//!
//! Pure. No line is wider than the terminal and there are no more lines than it has. When all does not fit, every part gives way by the same measure: what a
//! part begins with stays longest (the verdict, the gateway, each uplink with its link), tables show what is not well first, and say how much is left out.

use super::table::Table;
use super::words::count;
use super::{Ink, Mood, Paper, paper};
use crate::app::snapshot::{Health, Snapshot, Tag};

/// Between two texts side by side.
const GRID_GAP: usize = 2;
/// A text that stands beside others has no more columns.
const CELL_COLUMNS_MAX: usize = 40;

/// Columns and rows of a terminal.
pub type Size = (usize, usize);

/// A part of a picture.
pub struct Part<'a> {
    /// All its lines.
    whole: Vec<String>,
    /// Lines that it is given before any other part gets more.
    least: usize,
    /// What is shown of it in fewer lines.
    short: Box<dyn Fn(usize) -> Vec<String> + 'a>,
    /// Lines that it is given.
    given: usize,
    /// Lines that it is given at a time, while others get one.
    share: usize,
    /// No empty line comes before it.
    joined: bool,
}

impl<'a> Part<'a> {
    fn new(whole: Vec<String>, short: impl Fn(usize) -> Vec<String> + 'a) -> Self {
        Self { whole, least: 0, short: Box::new(short), given: 0, share: 1, joined: false }
    }

    /// It belongs to the part before it.
    #[must_use]
    fn joined(self) -> Self {
        Self { joined: true, ..self }
    }

    /// Text, of which the first lines are shown.
    #[must_use]
    pub fn text(text: &str, least: usize, paper: Paper) -> Self {
        let whole: Vec<String> = paper.wrap(text).lines().map(str::to_owned).collect();
        let begin = whole.clone();
        let least = least.min(whole.len());
        Self { least, ..Self::new(whole, move |rows| begin.iter().take(rows).cloned().collect()) }
    }

    /// A table of things; what is not well is shown first, under the headings.
    pub(super) fn rows<T, const N: usize>(
        things: &'a [T],
        is_well: impl Fn(&T) -> bool,
        table: impl Fn(&[&T]) -> Table<N>,
        noun: Noun,
        paper: Paper,
    ) -> Self {
        let mut all: Vec<&T> = things.iter().collect();
        let whole = table(&all).lines(paper);
        all.sort_by_key(|thing| is_well(thing));
        let bad = all.iter().filter(|thing| !is_well(thing)).count();
        let (lines, all) = (table(&all).lines(paper), all.len());
        let short = move |rows: usize| {
            let fit = rows.saturating_sub(2);
            let begin = if fit > 0 { fit + 1 } else { 0 };
            let mut shown: Vec<String> = lines.iter().take(begin).cloned().collect();
            shown.push(more(all, fit, bad, noun, paper.ink));
            shown.truncate(rows);
            shown
        };
        Self { share: 3, ..Self::new(whole, short) }
    }

    /// Short texts side by side, of which some say that something is not well: those are shown first.
    #[must_use]
    pub fn grid(cells: &[(String, Mood)], noun: Noun, (columns, ink): (usize, Ink)) -> Self {
        let whole = grid(cells, usize::MAX, (columns, ink));
        let mut all = cells.to_vec();
        all.sort_by_key(|(_, mood)| *mood != Mood::Bad);
        let bad = all.iter().filter(|(_, mood)| *mood == Mood::Bad).count();
        let short = move |rows: usize| {
            let mut shown = grid(&all, rows.saturating_sub(1), (columns, ink));
            let fit = beside(&all, columns) * shown.len();
            shown.push(more(all.len(), fit, bad, noun, ink));
            shown.truncate(rows);
            shown
        };
        Self::new(whole, short)
    }

    /// What is shown of it in the lines that it is given.
    fn shown(self) -> Vec<String> {
        if self.given >= self.whole.len() { self.whole } else { (self.short)(self.given) }
    }
}

/// What a thing is called, and several of them.
pub type Noun = (&'static str, &'static str);

/// How many of these texts fit side by side, two columns apart; a longer one than [`CELL_COLUMNS_MAX`] is shortened.
fn beside(cells: &[(String, Mood)], columns: usize) -> usize {
    let widest = cells.iter().map(|(text, _)| paper::width(text)).max().unwrap_or(0);
    ((columns + GRID_GAP) / (widest.min(CELL_COLUMNS_MAX) + GRID_GAP)).max(1)
}

/// The first texts that fit so many rows, one below the other.
fn grid(cells: &[(String, Mood)], rows: usize, (columns, ink): (usize, Ink)) -> Vec<String> {
    let beside = beside(cells, columns);
    let rows = rows.min(cells.len().div_ceil(beside));
    let room = (columns + GRID_GAP) / beside;
    let line = |row: usize| {
        let mut line = String::new();
        for at in 0..beside {
            let Some((text, mood)) = cells.get(at * rows + row) else { break };
            let text = paper::shorten(text, room.saturating_sub(GRID_GAP));
            line.push_str(&ink.paint(*mood, &text));
            line.extend(std::iter::repeat_n(' ', room.saturating_sub(paper::width(&text))));
        }
        line.trim_end().to_owned()
    };
    (0..rows).map(line).collect()
}

/// `12 more devices, 3 of them not well`.
fn more(all: usize, shown: usize, bad: usize, noun: Noun, ink: Ink) -> String {
    let (more, bad) = (all.saturating_sub(shown), bad.saturating_sub(shown));
    let noun = if more == 1 { noun.0 } else { noun.1 };
    let word = if shown > 0 { "more " } else { "" };
    match bad {
        0 => ink.paint(Mood::Faint, &format!("{} {word}{noun}", number(more))),
        bad => {
            ink.paint(Mood::Bad, &format!("{} {word}{noun}, {} of them not well", number(more), number(bad)))
        }
    }
}

fn number(number: usize) -> String {
    count(u64::try_from(number).unwrap_or(u64::MAX))
}

/// [`super::status`] within a terminal.
#[must_use]
pub fn status(snapshot: &Snapshot, ink: Ink, (columns, rows): Size) -> String {
    let paper = Paper::screen(ink, columns);
    let verdict = super::verdict::lines(snapshot, ink);
    let head = Part::text(&super::head(snapshot, ink), 1, paper).joined();
    let mut parts = vec![Part::text(&verdict, 1, paper), head];
    for uplink in &snapshot.uplinks {
        parts.push(Part::text(&super::uplink_lines(uplink, ink), 2, paper));
    }
    parts.push(Part::rows(&snapshot.buses, |bus| bus.up, super::bus_table, ("bus", "buses"), paper));
    let alive = |health| matches!(health, Health::Good | Health::Unknown);
    parts.push(Part::rows(
        &snapshot.devices,
        |device| alive(device.health),
        super::device_table,
        ("device", "devices"),
        paper,
    ));
    parts.push(Part::text(&super::store_line(snapshot, ink), 0, paper));
    if let Some(broker) = &snapshot.broker {
        parts.push(Part::text(&super::broker_lines(broker, ink), 0, paper));
    }
    arrange(parts, (columns, rows))
}

/// Gives each part its lines, with empty lines between them as far as there is room.
#[must_use]
pub fn arrange(mut parts: Vec<Part<'_>>, (columns, rows): Size) -> String {
    let mut left = rows;
    for part in &mut parts {
        part.given = part.least.min(left);
        left -= part.given;
    }
    while left > 0 && parts.iter().any(|part| part.given < part.whole.len()) {
        for part in parts.iter_mut().filter(|part| part.given < part.whole.len()) {
            let more = left.min(part.share).min(part.whole.len() - part.given);
            part.given += more;
            left -= more;
        }
    }
    let mut lines: Vec<String> = Vec::with_capacity(rows.min(1000));
    for part in parts {
        let joined = part.joined;
        let shown = part.shown();
        if left > 0 && !joined && !lines.is_empty() && !shown.is_empty() {
            lines.push(String::new());
            left -= 1;
        }
        lines.extend(shown);
    }
    lines.into_iter().map(|line| paper::cut(&line, columns) + "\n").collect()
}

/// Tags within a terminal, from the row `first` on; and the first row that makes sense: the last page has no gap.
#[must_use]
pub fn tags(tags: &[&Tag], ink: Ink, (columns, rows): Size, first: usize) -> (String, usize) {
    let lines = super::tag_table(tags).lines(Paper::screen(ink, columns));
    if lines.len() <= rows || tags.is_empty() {
        return (super::tags(tags, Paper::screen(ink, columns)), 0);
    }
    let page = rows.saturating_sub(2).max(1);
    let first = first.min(tags.len().saturating_sub(page));
    let hidden = tags.iter().enumerate().filter(|(at, _)| !(first..first + page).contains(at));
    let bad = hidden.filter(|(_, tag)| !tag.is_good()).count();
    let bad = match bad {
        0 => String::new(),
        bad => ink.paint(Mood::Bad, &format!(", {} of them not good", number(bad))),
    };
    let last = (first + page).min(tags.len());
    let more = format!(
        "{} more tags{bad}; shown are {} to {}: space and b turn pages",
        number(tags.len() - page),
        number(first + 1),
        number(last)
    );
    let shown = lines.iter().take(1).chain(lines.iter().skip(1 + first).take(page));
    let shown = shown.chain(std::iter::once(&more)).take(rows);
    (shown.map(|line| paper::cut(line, columns) + "\n").collect(), first)
}

#[cfg(test)]
mod tests {
    use super::super::paper::width;
    use super::super::tests::{check_golden, healthy, troubled};
    use super::*;
    use crate::app::snapshot::Device;

    /// A plant of so many devices and tags, of which some are dead.
    fn plant(devices: usize) -> Snapshot {
        let mut snapshot = troubled();
        let (device, tag) = (snapshot.devices[1].clone(), snapshot.tags[3].clone());
        let health = |number: usize| if number % 50 == 49 { Health::Dead } else { Health::Good };
        let name = |number: usize| format!("meter-in-hall-{number}");
        snapshot.devices.extend((0..devices).map(|number| Device {
            name: name(number),
            health: health(number),
            ..device.clone()
        }));
        snapshot.tags.extend((0..devices).map(|number| Tag { device: name(number), ..tag.clone() }));
        snapshot
    }

    fn fits(picture: &str, (columns, rows): Size) {
        assert!(picture.lines().count() <= rows, "{columns}x{rows}:\n{picture}");
        assert!(picture.lines().all(|line| width(line) <= columns), "{columns}x{rows}:\n{picture}");
    }

    fn all_tags(snapshot: &Snapshot) -> Vec<&Tag> {
        snapshot.tags.iter().collect()
    }

    #[test]
    fn status_keeps_gateway_and_link_in_view_at_80_by_24() {
        for snapshot in [healthy(), troubled(), plant(200)] {
            let picture = status(&snapshot, Ink::Plain, (80, 24));
            fits(&picture, (80, 24));
            assert!(picture.contains("gateway plant7-line2"), "{picture}");
            assert!(picture.contains("\n  link    "), "{picture}");
        }
        check_golden("watch-troubled.txt", &status(&plant(200), Ink::Plain, (80, 24)));
    }

    #[test]
    fn what_is_left_out_is_counted_and_what_is_not_well_is_shown_first() {
        let picture = status(&plant(200), Ink::Plain, (80, 24));
        let mut rows = picture.lines().skip_while(|line| !line.starts_with("DEVICE")).skip(1);
        let shown: Vec<&str> = rows.by_ref().take_while(|line| !line.contains("more devices")).collect();
        assert!(
            shown.len() >= 2 && shown.iter().all(|row| row.contains("dead") || row.contains("down")),
            "{picture}"
        );
        let (more, dead) = (202 - shown.len(), 5 - shown.len());
        assert!(picture.contains(&format!("\n{more} more devices, {dead} of them not well\n")), "{picture}");
    }

    #[test]
    fn short_texts_stand_side_by_side_and_those_that_are_not_well_come_first() {
        let cell = |number: usize| {
            (format!("tag{number:02} {number}"), if number == 17 { Mood::Bad } else { Mood::Calm })
        };
        let cells: Vec<(String, Mood)> = (0..18).map(cell).collect();
        let picture = |rows| {
            let part = Part::grid(&cells, ("tag", "tags"), (30, Ink::Plain));
            arrange(vec![part], (30, rows))
        };
        let whole = picture(24);
        assert_eq!((whole.lines().count(), whole.lines().next()), (6, Some("tag00 0   tag06 6   tag12 12")));
        let short = picture(3);
        assert_eq!(short, "tag17 17  tag01 1   tag03 3\ntag00 0   tag02 2   tag04 4\n12 more tags\n");
    }

    #[test]
    fn every_size_of_terminal_is_kept_to() {
        let snapshot = plant(60);
        for size in [(20, 5), (1, 1), (40, 10), (80, 24), (200, 100), (80, 0), (0, 24)] {
            for ink in [Ink::Plain, Ink::Ansi] {
                fits(&status(&snapshot, ink, size), size);
                fits(&tags(&all_tags(&snapshot), ink, size, 30).0, size);
            }
        }
        let tiny = status(&snapshot, Ink::Plain, (20, 5));
        assert!(tiny.contains("gateway") && tiny.contains("link"), "{tiny}");
    }

    #[test]
    fn a_terminal_that_is_large_enough_shows_everything_as_it_is_printed() {
        let snapshot = troubled();
        let picture = status(&snapshot, Ink::Plain, (300, 100));
        assert_eq!(picture.lines().count(), super::super::status(&snapshot, Ink::Plain).lines().count());
        let (picture, _) = tags(&all_tags(&snapshot), Ink::Plain, (300, 100), 0);
        assert_eq!(picture, super::super::tags(&all_tags(&snapshot), Ink::Plain));
    }

    #[test]
    fn two_hundred_tags_fit_the_terminal_page_by_page() {
        let snapshot = plant(195);
        let page = |first| tags(&all_tags(&snapshot), Ink::Plain, (80, 24), first);
        let (picture, first) = page(0);
        assert_eq!((picture.lines().count(), first), (24, 0));
        assert!(picture.ends_with("178 more tags; shown are 1 to 22: space and b turn pages\n"), "{picture}");
        let (picture, first) = page(22);
        assert_eq!(first, 22);
        let more = "178 more tags, 4 of them not good; shown are 23 to 44: space and b turn pages\n";
        assert!(picture.ends_with(more), "{picture}");
        let (picture, first) = page(1000);
        assert_eq!(first, 178, "the last page is full");
        assert!(picture.contains("shown are 179 to 200"), "{picture}");
    }
}
