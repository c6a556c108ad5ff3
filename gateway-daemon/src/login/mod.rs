//! Passwords of local clients: compared in a task of their own, because that takes tens of milliseconds and megabytes by design.
//!
//! ```text
//! Broker --Question--> one comparison, in a blocking thread --Verdict--> Broker
//! ```
//!
//! A comparison with the default cost takes [`MEMORY_KIB`] KiB and [`PASSES`] passes: the smallest memory that OWASP recommends for Argon2id
//! ("Password Storage Cheat Sheet": m = 7 MiB, t = 5, p = 1), because memory is what the gateway has least of. Hashes of other programs bring
//! their own cost, bounded by [`gateway_core::broker::access::phc`].
//!
//! Bounds: one question waits, one comparison runs; who comes next is for the broker to say. The memory of a comparison is the system's again when it is done:
//! see `drivers::memory`. Never: keeps a password after the verdict, writes one to the log, or sees a configuration.

mod base64;
mod hash;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use gateway_core::broker::ConnId;
use tokio::sync::mpsc;

use crate::panics::contain;

pub use hash::{MEMORY_KIB, PASSES, compare, make};

/// Whether a password is the one of a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// Which connection waits.
    pub conn: ConnId,
    /// What the client sent.
    pub password: Vec<u8>,
    /// Argon2id in PHC format.
    pub hash: Arc<str>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("conn", &self.conn).finish_non_exhaustive()
    }
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Which connection waits.
    pub conn: ConnId,
    /// The password is the right one.
    pub fits: bool,
}

/// Where questions are asked. Its task ends with it.
#[derive(Debug)]
pub struct Verifier {
    questions: mpsc::Sender<Question>,
}

impl Verifier {
    /// Starts the task; verdicts go to `verdicts`, made into what it carries. Must be called within a tokio runtime.
    pub fn start<T: Send + 'static>(
        verdicts: mpsc::Sender<T>,
        made: impl Fn(Verdict) -> T + Send + 'static,
    ) -> Self {
        let (questions, mut todo) = mpsc::channel::<Question>(1);
        tokio::spawn(async move {
            while let Some(question) = todo.recv().await {
                let conn = question.conn;
                let fits = answered(question).await;
                if verdicts.send(made(Verdict { conn, fits })).await.is_err() {
                    return;
                }
            }
        });
        Self { questions }
    }

    /// Whether its task has ended by itself: a fault of this program.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.questions.is_closed()
    }

    /// Asks a question.
    ///
    /// # Errors
    /// The question, when one waits already.
    pub fn ask(&self, question: Question) -> Result<(), Question> {
        self.questions.try_send(question).map_err(mpsc::error::TrySendError::into_inner)
    }
}

async fn answered(question: Question) -> bool {
    let compare = move || compare(&question.password, &question.hash);
    let compared = tokio::task::spawn_blocking(|| contain("the comparison of a password", compare));
    compared.await.unwrap_or(false) // a comparison that did not end is none that fits
}
