//! Carries turns and reads of the broker to the store, and what the store says back.
//!
//! One turn and one read are under way at a time; a read does not wait for the sync of a turn. An answer that the store gave before it
//! was replaced is told before the news of that.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use gateway_core::broker::{Answer, Read, Turn};
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use super::Word;
use crate::store::Store;

type Asked = Option<Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// Runs until the broker or whoever listens is gone.
pub(super) async fn run(
    store: Arc<Store>,
    mut turns: mpsc::Receiver<Turn>,
    mut reads: mpsc::Receiver<Read>,
    said: mpsc::Sender<Word>,
) {
    let (mut turn, mut read): (Asked, Asked) = (None, None);
    loop {
        // Unconstrained, because a spent budget would hide an answer that is there and let the reset overtake it.
        let answer = unconstrained(async {
            tokio::select! {
                biased;
                answer = answered(&mut turn) => Some(answer),
                answer = answered(&mut read) => Some(answer),
                reset = store.next_broker_reset() => Some(reset),
                asked = turns.recv(), if turn.is_none() => {
                    let store = Arc::clone(&store);
                    turn = asked.map(|asked| -> Pin<Box<dyn Future<Output = Answer> + Send>> { Box::pin(async move { store.turn(asked).await }) });
                    None
                }
                asked = reads.recv(), if read.is_none() => {
                    let store = Arc::clone(&store);
                    read = asked.map(|asked| -> Pin<Box<dyn Future<Output = Answer> + Send>> { Box::pin(async move { store.read(asked).await }) });
                    None
                }
            }
        })
        .await;
        let gone = match answer {
            Some(answer) => said.send(Word::Answer(answer)).await.is_err(),
            None => turns.is_closed() && turn.is_none(),
        };
        if gone {
            return;
        }
    }
}

/// The answer to what was asked, which is under way no longer then; never, if nothing is.
async fn answered(asked: &mut Asked) -> Answer {
    let Some(under_way) = asked else { return std::future::pending().await };
    let answer = under_way.await;
    *asked = None;
    answer
}
