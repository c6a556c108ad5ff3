//! What is wrong with a configuration file, and the list in which problems are collected.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::source::Source;

/// Problems that are printed; what is beyond is counted. A screen of a laptop on a control cabinet shows about 50 lines,
/// and after twice as many the first ones are to be repaired anyway.
pub const PROBLEMS_MAX: usize = 100;

/// Whether a problem keeps the gateway from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// Its limits do not fit together, or one of its certificates cannot be used: `check`, a reload and provisioning refuse it; a start with the file that
    /// ran before goes on with limits lowered and without what the certificate is for ([`crate::load_installed`]).
    Unfit,
    /// The file is taken, and a person should look at this.
    Warning,
}

/// One thing that is wrong, and where. Printed as `file:line:col: what, expected, what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, what was expected and what to do. Never holds a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.text)
    }
}

impl Severity {
    /// Whether a file with it is refused when it is new.
    #[must_use]
    pub fn is_error(self) -> bool {
        self != Self::Warning
    }
}

/// All problems of a refused file, by position; at least one is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// At most [`PROBLEMS_MAX`], by position.
    pub list: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
    /// What the polling costs on the wire, as a table, if that is what was refused.
    pub plan: Option<String>,
}

impl Problems {
    pub(crate) fn one(problem: Problem) -> Self {
        Self { list: vec![problem], more: 0, plan: None }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// How far a problem can be trusted when the file also has a syntax error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Seen in one value alone.
    Value,
    /// Depends on the rest of the file (something is missing, unknown or there twice), which a syntax error may have hidden.
    File,
    /// The syntax error itself.
    Syntax,
}

/// A problem before its position is translated.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    reach: Reach,
    at: usize,
    text: String,
}

/// Findings kept while a file is read: enough that the first [`PROBLEMS_MAX`] by position survive whatever comes.
const FINDINGS_MAX: usize = 4 * PROBLEMS_MAX;

/// Collects problems while a file is read. Reading never stops at one.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    source: &'a Source<'a>,
    list: RefCell<Vec<Finding>>,
    more: RefCell<usize>,
    /// Errors so far, whether they are kept or not.
    errors: Cell<usize>,
    broken: RefCell<Vec<u32>>,
    ignored: RefCell<Vec<Range<usize>>>,
    plan: RefCell<Option<String>>,
    /// Of something there is more than a gateway may have, which is all that is said.
    excess: RefCell<Vec<(usize, String)>>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            list: RefCell::default(),
            more: RefCell::default(),
            errors: Cell::default(),
            broken: RefCell::default(),
            ignored: RefCell::default(),
            plan: RefCell::default(),
            excess: RefCell::default(),
        }
    }

    /// The line of a position, to name a second place in a text.
    pub(crate) fn line(&self, span: &Range<usize>) -> u32 {
        self.source.line_number(span.start)
    }

    /// What the file says at a position.
    pub(crate) fn text(&self, span: &Range<usize>) -> &'a str {
        self.source.slice(span)
    }

    /// A value is wrong by itself.
    pub(crate) fn wrong(&self, span: &Range<usize>, text: impl Into<String>) {
        self.push(Severity::Error, Reach::Value, span.start, text.into());
    }

    /// Something does not fit the rest of the file.
    pub(crate) fn misfit(&self, span: &Range<usize>, text: impl Into<String>) {
        self.push(Severity::Error, Reach::File, span.start, text.into());
    }

    /// There are more of something than a gateway may have. Nothing else is said of the file: what follows from those that are too many would bury it.
    pub(crate) fn too_many(&self, span: &Range<usize>, text: impl Into<String>) {
        self.errors.set(self.errors.get() + 1);
        self.excess.borrow_mut().push((span.start, text.into()));
    }

    /// How many there are of something of which there may be `max`, for a sentence: behind a line that is no TOML some may not have been counted.
    pub(crate) fn amount(&self, counted: usize, max: usize) -> String {
        if self.broken.borrow().is_empty() { counted.to_string() } else { format!("more than {max}") }
    }

    /// Whether the line of a position has a syntax error already.
    pub(crate) fn is_broken(&self, at: usize) -> bool {
        self.broken.borrow().contains(&self.source.line_number(at))
    }

    /// Whether more syntax errors than are ever printed are collected.
    pub(crate) fn is_full(&self) -> bool {
        self.broken.borrow().len() >= FINDINGS_MAX
    }

    /// Counts a problem that nobody will look at.
    pub(crate) fn count_one_more(&self) {
        *self.more.borrow_mut() += 1;
    }

    /// The file is not TOML here.
    pub(crate) fn syntax(&self, at: usize, text: impl Into<String>) {
        self.broken.borrow_mut().push(self.source.line_number(at));
        self.push(Severity::Error, Reach::Syntax, at, text.into());
    }

    /// What the parser made of this text is an echo of an error: nothing found in it counts.
    pub(crate) fn ignore(&self, range: Range<usize>) {
        let mut ignored = self.ignored.borrow_mut();
        if ignored.len() < FINDINGS_MAX {
            ignored.push(range);
        }
    }

    /// The plan of the buses, of which some cannot be polled in time.
    pub(crate) fn explain(&self, plan: String) {
        *self.plan.borrow_mut() = Some(plan);
    }

    /// Limits are larger than what they are meant for, or a certificate cannot be used.
    pub(crate) fn unfit(&self, span: &Range<usize>, text: impl Into<String>) {
        self.push(Severity::Unfit, Reach::File, span.start, text.into());
    }

    /// Works, and a person should look at it.
    pub(crate) fn warn(&self, span: &Range<usize>, text: impl Into<String>) {
        self.push(Severity::Warning, Reach::File, span.start, text.into());
    }

    pub(crate) fn has_errors(&self) -> bool {
        let listed = || self.list.borrow().iter().any(|f| f.severity == Severity::Error);
        *self.more.borrow() > 0 || !self.excess.borrow().is_empty() || listed()
    }

    /// Reads a part of the file, and says whether nothing of it was refused: only then can something be derived from the whole of it.
    pub(crate) fn sound<T>(&self, read: impl FnOnce() -> T) -> (T, bool) {
        let before = self.errors.get();
        let part = read();
        (part, self.errors.get() == before)
    }

    pub(crate) fn has_unfit(&self) -> bool {
        self.list.borrow().iter().any(|f| f.severity == Severity::Unfit)
    }

    fn push(&self, severity: Severity, reach: Reach, at: usize, text: String) {
        // What a gateway can start with leaves the values as they were written.
        self.errors.set(self.errors.get() + usize::from(severity == Severity::Error));
        let mut list = self.list.borrow_mut();
        list.push(Finding { severity, reach, at, text });
        if list.len() > FINDINGS_MAX {
            // Errors first, so that a flood of warnings cannot hide the reason of a refusal.
            list.sort_by_key(|f| (f.severity == Severity::Warning, f.at));
            *self.more.borrow_mut() += list.len() - PROBLEMS_MAX;
            list.truncate(PROBLEMS_MAX);
        }
    }

    /// All problems by position. With a syntax error in the file, only what it cannot have caused.
    pub(crate) fn into_problems(self) -> Problems {
        let mut excess = self.excess.into_inner();
        if !excess.is_empty() {
            excess.sort_unstable();
            let list = excess.into_iter().map(|(at, text)| self.source.problem(Severity::Error, at, text));
            return Problems { list: list.collect(), more: 0, plan: None };
        }
        let plan = self.plan.into_inner();
        let (broken, ignored) = (self.broken.into_inner(), self.ignored.into_inner());
        let mut list = self.list.into_inner();
        let mut more = self.more.into_inner();
        if !broken.is_empty() {
            list.retain(|f| match f.reach {
                Reach::Syntax => true,
                Reach::Value => {
                    !ignored.iter().any(|range| range.contains(&f.at))
                        && !broken.contains(&self.source.line_number(f.at))
                }
                Reach::File => false,
            });
        }
        list.sort_by_key(|f| (f.severity == Severity::Warning, f.at));
        list.dedup_by(|a, b| a.at == b.at && a.text == b.text); // a key may be asked for twice
        more += list.len().saturating_sub(PROBLEMS_MAX);
        list.truncate(PROBLEMS_MAX);
        list.sort_by_key(|f| f.at);
        let list = list.into_iter().map(|f| self.source.problem(f.severity, f.at, f.text)).collect();
        Problems { list, more, plan }
    }
}
