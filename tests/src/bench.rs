//! What a benchmark prints, so that `cargo xtask bench` can put all of them into one table.

/// One number beside what it is measured against.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<'a> {
    /// What was measured, with its circumstances.
    pub what: &'a str,
    /// The number.
    pub value: f64,
    /// The limit of physics, the peer in the same run, or the goal itself.
    pub reference: f64,
    /// Unit of both.
    pub unit: &'a str,
    /// What the ratio of the two must be.
    pub goal: Goal,
}

/// A goal for `value / reference`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// No goal: shown for orientation.
    Shown,
}

impl Measured<'_> {
    /// The line that `cargo xtask bench` reads: what, measured, limit or peer, ratio, goal, verdict. A number that is not finite misses its goal.
    #[must_use]
    pub fn line(&self) -> String {
        let ratio = self.value / self.reference;
        let (goal, met) = match self.goal {
            Goal::AtLeast(least) => (format!(">= {least}"), ratio >= least),
            Goal::AtMost(most) => (format!("<= {most}"), ratio <= most),
            Goal::Shown => ("-".to_owned(), ratio.is_finite()),
        };
        let verdict = if met { "ok" } else { "MISSED" };
        let Self { what, value, reference, unit, .. } = self;
        format!(
            "bench|{what}|{} {unit}|{} {unit}|{ratio:.3}|{goal}|{verdict}",
            short(*value),
            short(*reference)
        )
    }

    /// Prints the line.
    pub fn print(&self) {
        println!("{}", self.line());
    }
}

/// Three digits are enough below a thousand, whole numbers above.
fn short(number: f64) -> String {
    if number.abs() >= 1000.0 { format!("{number:.0}") } else { format!("{number:.3}") }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Measured};

    #[test]
    fn a_line_has_the_six_fields_that_xtask_reads() {
        let measured = Measured {
            what: "polls at 9600 baud",
            value: 48.0,
            reference: 50.0,
            unit: "1/s",
            goal: Goal::AtLeast(0.95),
        };
        assert_eq!(measured.line(), "bench|polls at 9600 baud|48.000 1/s|50.000 1/s|0.960|>= 0.95|ok");
        let missed = Measured { value: 40.0, ..measured.clone() };
        assert!(missed.line().ends_with("|MISSED"));
        let nothing = Measured { value: f64::NAN, ..measured };
        assert!(nothing.line().ends_with("|MISSED"), "a number that is not one is no success");
    }
}
