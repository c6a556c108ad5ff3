//! Log-ins that wait for their comparison, which takes tens of milliseconds of a core: one at a time, chosen so that nobody's guesses delay others.
//!
//! ```text
//! push --> trusted (a user from an address where it has logged in before)  --.
//!          known   (a user of the file)                                      |-- pop
//!          unknown (names that nobody has)                                 --'
//! ```
//! Every second turn begins with the trusted ones, and one in four with each of the others; who has nothing waiting loses its turn. Inside each, addresses take turns,
//! and users of one address do. So a right log-in waits for at most two comparisons for each address ahead of it that has trusted log-ins waiting as well, or for four
//! for each address with log-ins of known users, whatever else waits and however many.
//!
//! Bounds: [`WAITING_PER_PEER_MAX`] log-ins of one address; together as many as there are connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Peer;
use crate::broker::ConnId;

/// Most log-ins of one address that wait: ten seconds of comparisons and more.
pub const WAITING_PER_PEER_MAX: usize = 256;

/// How much is known of a log-in that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The user has logged in from this address before.
    Trusted,
    /// The user is in the file.
    Known,
    /// Nobody has this name, or not with this client id.
    Unknown,
}

/// A log-in that waits. No `Debug`: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which connection.
    pub conn: ConnId,
    /// Where it comes from.
    pub peer: Peer,
    /// As whom.
    pub user: Arc<str>,
    /// How much is known.
    pub standing: Standing,
    /// What the client sent.
    pub password: Vec<u8>,
    /// What it is compared with.
    pub hash: Arc<str>,
}

/// Things in turn by a key; those of one key in their order.
struct Turns<K, T> {
    order: VecDeque<K>,
    waiting: BTreeMap<K, T>,
}

type ByUser = Turns<Arc<str>, VecDeque<Waiting>>;

/// The queue.
#[derive(Default)]
pub struct LoginQueue {
    standings: [Turns<Peer, ByUser>; 3],
    of_peer: BTreeMap<Peer, usize>,
    turn: u8,
    len: usize,
}

impl std::fmt::Debug for LoginQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginQueue").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Default> Turns<K, T> {
    /// The place of a key; a key that had none is last in turn.
    fn place(&mut self, key: &K) -> &mut T {
        if !self.waiting.contains_key(key) {
            self.order.push_back(key.clone());
        }
        self.waiting.entry(key.clone()).or_default()
    }

    /// Takes from the key whose turn it is; `take` gives what it took, and whether nothing is left.
    fn take(&mut self, take: impl FnOnce(&mut T) -> (Option<Waiting>, bool)) -> Option<Waiting> {
        let key = self.order.pop_front()?;
        let (taken, is_empty) = take(self.waiting.get_mut(&key)?);
        if is_empty {
            self.waiting.remove(&key);
        } else {
            self.order.push_back(key);
        }
        taken
    }

    fn forget(&mut self, key: &K) {
        self.waiting.remove(key);
        self.order.retain(|other| other != key);
    }
}

impl LoginQueue {
    /// Puts a log-in in; `false` if as many of its address wait as are allowed.
    pub fn push(&mut self, waiting: Waiting) -> bool {
        let count = self.of_peer.entry(waiting.peer.clone()).or_default();
        if *count >= WAITING_PER_PEER_MAX {
            return false;
        }
        *count += 1;
        self.len += 1;
        let users = self.standings[waiting.standing as usize].place(&waiting.peer);
        users.place(&waiting.user).push_back(waiting);
        true
    }

    /// Takes out the one that is compared next.
    pub fn pop(&mut self) -> Option<Waiting> {
        const ORDERS: [[Standing; 3]; 4] = [
            [Standing::Trusted, Standing::Known, Standing::Unknown],
            [Standing::Known, Standing::Unknown, Standing::Trusted],
            [Standing::Trusted, Standing::Known, Standing::Unknown],
            [Standing::Unknown, Standing::Known, Standing::Trusted],
        ];
        let order = ORDERS[usize::from(self.turn % 4)];
        self.turn = self.turn.wrapping_add(1);
        let next = order.into_iter().find_map(|standing| {
            self.standings[standing as usize].take(|users| {
                let taken = users.take(|queue| {
                    let taken = queue.pop_front();
                    (taken, queue.is_empty())
                });
                (taken, users.order.is_empty())
            })
        })?;
        self.left(&next.peer);
        Some(next)
    }

    /// Takes a connection out, which is gone.
    pub fn remove(&mut self, conn: ConnId, peer: &Peer, user: &Arc<str>) {
        for standing in &mut self.standings {
            let Some(users) = standing.waiting.get_mut(peer) else { continue };
            let Some(queue) = users.waiting.get_mut(user) else { continue };
            let before = queue.len();
            queue.retain(|waiting| waiting.conn != conn);
            let gone = before > queue.len();
            if queue.is_empty() {
                users.forget(user);
            }
            if users.order.is_empty() {
                standing.forget(peer);
            }
            if gone {
                self.left(peer);
                return;
            }
        }
    }

    fn left(&mut self, peer: &Peer) {
        self.len -= 1;
        if let Some(count) = self.of_peer.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(peer);
            }
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(conn: u64, peer: u8, user: u8, standing: Standing) -> Waiting {
        Waiting {
            conn: ConnId(conn),
            peer: Peer::of(&format!("10.0.0.{peer}")),
            user: format!("u{user}").into(),
            standing,
            password: Vec::new(),
            hash: "".into(),
        }
    }

    const STANDINGS: [Standing; 3] = [Standing::Trusted, Standing::Known, Standing::Unknown];

    /// How many comparisons come before that of connection 0.
    fn wait_of(queue: &mut LoginQueue) -> usize {
        (0..).find(|_| queue.pop().is_none_or(|next| next.conn == ConnId(0))).unwrap_or(usize::MAX)
    }

    proptest! {
        /// Ten thousand guesses from few addresses delay nobody by more than the addresses: whatever waits, whoever came first.
        #[test]
        fn a_right_log_in_waits_for_a_number_of_comparisons_that_others_cannot_raise(
            crowd in proptest::collection::vec((1..20_u8, 0..4_u8, 0..3_usize), 0..2000),
            turn in 0..4_u8,
            known in any::<bool>(),
        ) {
            let mut queue = LoginQueue { turn, ..LoginQueue::default() };
            let right = if known { Standing::Known } else { Standing::Trusted };
            let mut rivals = std::collections::BTreeSet::new();
            for (conn, (peer, user, standing)) in (1..).zip(&crowd) {
                queue.push(waiting(conn, *peer, *user, STANDINGS[*standing]));
                if STANDINGS[*standing] == right {
                    rivals.insert(*peer);
                }
            }
            queue.push(waiting(0, 200, 0, right));
            let each = if known { 4 } else { 2 };
            prop_assert!(wait_of(&mut queue) <= each * (rivals.len() + 1));
        }

        /// What is put in comes out once or was taken out, and nothing is left behind.
        #[test]
        fn nothing_is_lost_or_left(
            moves in proptest::collection::vec((0..4_u8, 1..6_u8, 0..3_u8, 0..3_usize), 0..300),
        ) {
            let mut queue = LoginQueue::default();
            let mut inside = BTreeMap::new();
            for (conn, (what, peer, user, standing)) in (1_u64..).zip(moves) {
                match what {
                    0 => {
                        let next = queue.pop();
                        prop_assert_eq!(next.is_none(), inside.is_empty());
                        prop_assert!(next.is_none_or(|next| inside.remove(&next.conn).is_some()));
                    }
                    1 => if let Some((conn, (peer, user))) = inside.pop_first() {
                        queue.remove(conn, &peer, &user);
                    },
                    _ => {
                        let one = waiting(conn, peer, user, STANDINGS[standing]);
                        inside.insert(one.conn, (one.peer.clone(), Arc::clone(&one.user)));
                        prop_assert!(queue.push(one));
                    }
                }
                prop_assert_eq!(queue.len(), inside.len());
            }
            while queue.pop().is_some() {}
            prop_assert!(queue.is_empty() && queue.of_peer.is_empty());
            prop_assert!(queue.standings.iter().all(|turns| turns.order.is_empty() && turns.waiting.is_empty()));
        }
    }

    #[test]
    fn a_user_is_not_delayed_by_guesses_for_another_at_the_same_address() {
        let mut queue = LoginQueue::default();
        for conn in 1..100 {
            queue.push(waiting(conn, 7, 1, Standing::Trusted));
        }
        queue.push(waiting(0, 7, 2, Standing::Trusted));
        assert!(wait_of(&mut queue) <= 1);
    }

    #[test]
    fn an_address_that_sends_too_many_is_told_so_and_others_are_not() {
        let mut queue = LoginQueue::default();
        for conn in 0..WAITING_PER_PEER_MAX {
            assert!(queue.push(waiting(conn as u64, 1, 1, Standing::Unknown)));
        }
        assert!(!queue.push(waiting(9999, 1, 2, Standing::Known)));
        assert!(queue.push(waiting(9999, 2, 1, Standing::Unknown)));
    }
}
