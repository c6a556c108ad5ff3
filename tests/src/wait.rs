//! Waiting for an event with a deadline: a test that hangs says what it waited for.

use std::future::Future;
use std::time::Duration;

/// Long enough for a loaded machine; a green test never waits for it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for `what`.
///
/// # Panics
/// When [`DEADLINE`] passes first.
#[allow(clippy::panic)]
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain for {what}", DEADLINE.as_secs()),
    }
}
