//! Who holds one filter: nearly always one session.

use std::sync::Arc;

use super::{GroupId, Matches};
use crate::broker::packet::Options;
use crate::uplink::row::Qos;

/// Who holds one filter.
#[derive(Debug)]
pub(super) enum Holders<K> {
    None,
    /// Nearly always.
    One(K, Small),
    Many(Box<Many<K>>),
}

#[derive(Debug)]
pub(super) struct Many<K> {
    /// Ascending by key; as a match gives them, to be copied at once.
    own: Vec<(K, Options)>,
    /// Ascending by share name, with the number of members.
    groups: Vec<(Arc<str>, GroupId, u32)>,
    /// Members of all groups.
    members: u32,
}

/// [`Options`] in eight bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    /// 0 is none.
    identifier: u32,
    flags: u8,
}

impl From<Options> for Small {
    fn from(options: Options) -> Self {
        Self { identifier: options.identifier.unwrap_or(0), flags: options.flags() }
    }
}

impl From<Small> for Options {
    fn from(small: Small) -> Self {
        // Flags of options are always read again.
        let identifier = (small.identifier > 0).then_some(small.identifier);
        Self::of_flags(small.flags, identifier).unwrap_or(Self::plain(Qos::ExactlyOnce))
    }
}

impl<K: Ord + Copy> Holders<K> {
    /// How much a match finds here: subscriptions and members of groups.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(many) => {
                many.members.saturating_add(u32::try_from(many.own.len()).unwrap_or(u32::MAX))
            }
        }
    }

    pub(super) fn add_to(&self, found: &mut Matches<K>) {
        match self {
            Self::None => {}
            Self::One(key, options) => found.own.push((*key, (*options).into())),
            Self::Many(many) => {
                found.own.extend_from_slice(&many.own);
                found.groups.extend(many.groups.iter().map(|(_, id, _)| *id));
            }
        }
    }

    /// What a holder wants.
    pub(super) fn options(&self, key: K) -> Option<Options> {
        match self {
            Self::One(only, options) if *only == key => Some((*options).into()),
            Self::Many(many) => {
                let at = many.own.binary_search_by_key(&key, |(other, _)| *other).ok()?;
                Some(many.own[at].1)
            }
            _ => None,
        }
    }

    /// Adds a holder or replaces what it wants; says whether it is another one.
    pub(super) fn place(&mut self, key: K, options: Options) -> bool {
        match self {
            Self::None => *self = Self::One(key, options.into()),
            Self::One(only, old) if *only == key => {
                *old = options.into();
                return false;
            }
            Self::One(..) | Self::Many(_) => {
                let Some(Many { own, .. }) = self.many() else { return false };
                match own.binary_search_by_key(&key, |(other, _)| *other) {
                    Ok(at) => {
                        own[at].1 = options;
                        return false;
                    }
                    Err(at) => own.insert(at, (key, options)),
                }
            }
        }
        true
    }

    pub(super) fn take(&mut self, key: K) -> bool {
        match self {
            Self::One(only, _) if *only == key => {
                *self = Self::None;
                return true;
            }
            Self::Many(many) => {
                let found = many.own.binary_search_by_key(&key, |(other, _)| *other);
                if let Ok(at) = found {
                    many.own.remove(at);
                    self.shrink();
                }
                return found.is_ok();
            }
            _ => {}
        }
        false
    }

    /// The group of a share name.
    pub(super) fn group(&self, share: &str) -> Option<GroupId> {
        let Self::Many(many) = self else { return None };
        let at = many.groups.binary_search_by(|(name, _, _)| (**name).cmp(share)).ok()?;
        Some(many.groups[at].1)
    }

    /// A group has so many members; with none it goes.
    pub(super) fn set_group(&mut self, share: &Arc<str>, id: GroupId, members: usize) {
        let count = u32::try_from(members).unwrap_or(u32::MAX);
        let Some(many) = self.many() else { return };
        let place = many.groups.binary_search_by(|(name, _, _)| name.cmp(share));
        let before = place.map_or(0, |at| many.groups[at].2);
        many.members = many.members.saturating_sub(before).saturating_add(count);
        match place {
            Ok(at) if members == 0 => _ = many.groups.remove(at),
            Ok(at) => many.groups[at].2 = count,
            Err(at) if members > 0 => many.groups.insert(at, (Arc::clone(share), id, count)),
            Err(_) => {}
        }
        self.shrink();
    }

    /// Makes room for several; there is always a `Some`.
    fn many(&mut self) -> Option<&mut Many<K>> {
        if !matches!(self, Self::Many(_)) {
            let own = match self {
                Self::One(key, options) => vec![(*key, (*options).into())],
                _ => Vec::new(),
            };
            *self = Self::Many(Box::new(Many { own, groups: Vec::new(), members: 0 }));
        }
        match self {
            Self::Many(many) => Some(many),
            _ => None,
        }
    }

    /// Gives back what is not needed any more.
    fn shrink(&mut self) {
        let Self::Many(many) = self else { return };
        if many.groups.is_empty() && many.own.len() <= 1 {
            *self = many.own.first().map_or(Self::None, |(key, options)| Self::One(*key, (*options).into()));
        } else if many.own.len() * 4 < many.own.capacity() {
            many.own.shrink_to_fit();
        }
    }
}
