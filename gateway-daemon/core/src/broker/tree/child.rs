//! A level in the shortest form that can say it.

use super::Matches;
use super::holders::{Holders, Small};
use super::label::Label;
use super::node::{Edge, Edges, Node, PLUS, Toll, split};

/// A level, in the shortest of the forms that can say it: a filter that nobody shares a level with is a row of `Way` and a `Here` or `Below` at its end.
#[derive(Debug)]
pub(super) enum Child<K> {
    /// Nothing: about to be filled, or to be removed.
    Bare,
    /// One subscription ends here, and that is all.
    Here(Small, K),
    /// One subscription ends with `#` below here, and that is all.
    Below(Small, K),
    /// One level goes on from it, which may be `+`, and that is all. With its steps.
    Way(u32, Box<Edge<K>>),
    /// Everything else.
    Node(Box<Node<K>>),
}

impl<K: Ord + Copy> Child<K> {
    /// Most steps that any name can take from here on.
    pub(super) fn steps(&self) -> u32 {
        match self {
            Self::Bare => 0,
            Self::Here(..) | Self::Below(..) => 2,
            Self::Way(steps, _) => *steps,
            Self::Node(node) => node.steps,
        }
    }

    pub(super) fn is_bare(&self) -> bool {
        matches!(self, Self::Bare)
    }

    pub(super) fn collect(&self, mut levels: Option<&str>, found: &mut Matches<K>) {
        let mut child = self;
        loop {
            match child {
                Self::Bare => return,
                Self::Node(node) => return node.collect(levels, false, found),
                _ => found.steps += 1,
            }
            match child {
                Self::Here(options, key) if levels.is_none() => found.own.push((*key, (*options).into())),
                Self::Below(options, key) => found.own.push((*key, (*options).into())),
                Self::Way(_, edge) => {
                    let Some((level, rest)) = levels.map(split) else { return };
                    if edge.label.is(level) || edge.label.is(PLUS) {
                        (child, levels) = (&edge.child, rest);
                        continue;
                    }
                }
                _ => {}
            }
            return;
        }
    }

    /// Looks at the holders of a filter.
    pub(super) fn look<R>(&self, levels: Option<&str>, look: impl FnOnce(&Holders<K>) -> R) -> Option<R> {
        match (self, levels.map(split)) {
            (Self::Node(node), _) => node.look(levels, look),
            (Self::Here(options, key), None) | (Self::Below(options, key), Some(("#", _))) => {
                Some(look(&Holders::One(*key, *options)))
            }
            (Self::Way(_, edge), Some((level, rest))) if edge.label.is(level) => edge.child.look(rest, look),
            _ => None,
        }
    }

    /// See [`Node::insert`].
    pub(super) fn insert(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        join: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        match (&mut *self, levels.map(split)) {
            (Self::Bare, None) => return self.change(Self::of_here, join),
            (Self::Bare, Some(("#", _))) => return self.change(Self::of_below, join),
            (Self::Bare, Some((level, rest))) => {
                let mut edge = Box::new(Edge { label: Label::new(level), child: Self::Bare });
                let another = edge.child.insert(rest, toll, join);
                toll.level(level);
                *self = Self::Way(edge.child.steps().saturating_add(1), edge);
                return another;
            }
            (Self::Here(..), None) => return self.change(Self::of_here, join),
            (Self::Below(..), Some(("#", _))) => return self.change(Self::of_below, join),
            (Self::Way(steps, edge), Some((level, rest))) if edge.label.is(level) => {
                let another = edge.child.insert(rest, toll, join);
                *steps = edge.child.steps().saturating_add(1);
                return another;
            }
            (Self::Node(node), _) => return node.insert(levels, toll, join),
            _ => {}
        }
        let mut node = Box::new(std::mem::replace(self, Self::Bare).into_node());
        let another = node.insert(levels, toll, join);
        *self = Self::Node(node);
        another
    }

    /// See [`Node::remove`].
    pub(super) fn remove(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        leave: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        match (&mut *self, levels.map(split)) {
            (Self::Here(..), None) => self.change(Self::of_here, leave),
            (Self::Below(..), Some(("#", _))) => self.change(Self::of_below, leave),
            (Self::Way(steps, edge), Some((level, rest))) if edge.label.is(level) => {
                let removed = edge.child.remove(rest, toll, leave);
                *steps = edge.child.steps().saturating_add(1);
                if edge.child.is_bare() {
                    toll.level(level);
                    *self = Self::Bare;
                }
                removed
            }
            (Self::Node(node), _) => {
                let removed = node.remove(levels, toll, leave);
                if removed {
                    self.shorten();
                }
                removed
            }
            _ => false,
        }
    }

    /// Changes the only holders of this level.
    fn change(
        &mut self,
        form: fn(Holders<K>) -> Self,
        change: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut holders = match self {
            Self::Here(options, key) | Self::Below(options, key) => Holders::One(*key, *options),
            _ => Holders::None,
        };
        let changed = change(&mut holders);
        *self = form(holders);
        changed
    }

    fn of_here(here: Holders<K>) -> Self {
        match here {
            Holders::None => Self::Bare,
            Holders::One(key, options) => Self::Here(options, key),
            Holders::Many(_) => Self::of_node(Node { here, ..Node::default() }),
        }
    }

    fn of_below(below: Holders<K>) -> Self {
        match below {
            Holders::None => Self::Bare,
            Holders::One(key, options) => Self::Below(options, key),
            Holders::Many(_) => Self::of_node(Node { below, ..Node::default() }),
        }
    }

    /// Without levels behind it.
    fn of_node(mut node: Node<K>) -> Self {
        node.count_steps(0);
        Self::Node(Box::new(node))
    }

    /// The same level in the form that can be anything.
    fn into_node(self) -> Node<K> {
        let mut node = Node::default();
        let mut longest = 0;
        match self {
            Self::Bare => {}
            Self::Here(options, key) => node.here = Holders::One(key, options),
            Self::Below(options, key) => node.below = Holders::One(key, options),
            Self::Way(_, edge) if edge.label.is(PLUS) => node.plus = edge.child,
            Self::Way(_, edge) => {
                longest = edge.child.steps();
                node.literal = Edges::Few(vec![*edge]);
            }
            Self::Node(node) => return *node,
        }
        node.count_steps(longest);
        node
    }

    /// Takes a shorter form if that is enough.
    fn shorten(&mut self) {
        let Self::Node(node) = self else { return };
        let ways = node.literal.len() + usize::from(!node.plus.is_bare());
        let form = match (ways, &node.here, &node.below) {
            (0, Holders::None, Holders::None) => Self::Bare,
            (0, Holders::One(key, options), Holders::None) => Self::Here(*options, *key),
            (0, Holders::None, Holders::One(key, options)) => Self::Below(*options, *key),
            (1, Holders::None, Holders::None) => {
                let plus = std::mem::replace(&mut node.plus, Self::Bare);
                let edge = match node.literal.take_only() {
                    Some(edge) => edge,
                    None => Edge { label: Label::new(PLUS), child: plus },
                };
                Self::Way(edge.child.steps().saturating_add(1), Box::new(edge))
            }
            _ => return,
        };
        *self = form;
    }
}
