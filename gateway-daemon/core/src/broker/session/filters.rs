//! The subscriptions of one session by their text, so that it can be asked what it has and be ended: what each wants is in the tree, by the session.
//!
//! The texts are kept in order, each without the beginning that it shares with the one before it, in pages of some hundred bytes:
//!
//! ```text
//! page    entry ...                       the first one shares nothing
//! entry   shared, length, text            bytes taken over from the text before, bytes that follow, these
//! number  7 bits in a byte, the lowest first; the highest bit says that more follow
//! ```
//! Filters of one session are mostly alike, so each takes some ten bytes. To go to one costs a search over the first texts of the pages and a walk through
//! one page.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::broker::packet::Subscription;
use crate::broker::tree::cost_alone;

/// Most bytes of a page beside its first entry, if it has more than that one: some dozen entries. What is looked through to find one.
const PAGE_BYTES_MAX: usize = 128;

/// Two pages beside one another that have less than this together become one.
const PAGES_JOINED_BYTES_MAX: usize = PAGE_BYTES_MAX / 4 * 3;

/// By so much a page grows, bytes.
const PAGE_STEP_BYTES: usize = 32;

/// The subscriptions of one session, by their text.
#[derive(Debug, Default)]
pub(in crate::broker) struct Filters {
    pages: Pages,
    len: usize,
    /// How many of them are shared.
    shared: usize,
    /// See [`Filters::cost`].
    cost: usize,
}

#[derive(Debug)]
enum Pages {
    /// Nearly always.
    One(Page),
    /// In order, none of them empty.
    Many(Vec<Page>),
}

#[derive(Debug, Default)]
struct Page(Vec<u8>);

/// One entry of a page.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    /// Where it begins in the page, and where its text does.
    at: usize,
    text_at: usize,
    /// Bytes taken over from the text before.
    shared: usize,
    text: &'a [u8],
}

/// Where a text is in a page, or would be.
#[derive(Debug, Clone, Copy)]
struct Place {
    found: bool,
    /// Of the entry, or of the first behind it.
    at: usize,
    /// Bytes shared with the text before.
    shared: usize,
    /// Bytes shared with the entry at that place.
    shared_behind: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self::One(Page::default())
    }
}

impl Filters {
    pub(in crate::broker) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that all of them cost in the tree and here, if nobody has others of the same levels.
    pub(in crate::broker) fn cost(&self) -> usize {
        self.cost
    }

    pub(in crate::broker) fn has_shared(&self) -> bool {
        self.shared > 0
    }

    pub(in crate::broker) fn contains(&self, subscription: &Subscription) -> bool {
        let text = text(subscription);
        let pages = self.pages.as_slice();
        pages[page_of(pages, text.as_bytes())].find(text.as_bytes()).found
    }

    /// Whether it is another one.
    pub(in crate::broker) fn insert(&mut self, subscription: &Subscription) -> bool {
        let text = text(subscription);
        let inserted = self.pages.insert(text.as_bytes());
        self.len += usize::from(inserted);
        self.cost += if inserted { cost_alone(subscription) } else { 0 };
        self.shared += usize::from(inserted && subscription.share.is_some());
        inserted
    }

    /// Whether it was there.
    pub(in crate::broker) fn remove(&mut self, subscription: &Subscription) -> bool {
        let text = text(subscription);
        let removed = self.pages.remove(text.as_bytes());
        self.len -= usize::from(removed);
        self.cost -= if removed { cost_alone(subscription) } else { 0 };
        self.shared -= usize::from(removed && subscription.share.is_some());
        removed
    }

    pub(in crate::broker) fn iter(&self) -> impl Iterator<Item = Subscription> {
        self.pages.as_slice().iter().flat_map(|page| page.each(parse)).flatten()
    }

    /// The next one in any order, taken out.
    pub(in crate::broker) fn pop(&mut self) -> Option<Subscription> {
        let subscription = parse(&self.pages.pop()?)?;
        self.len -= 1;
        self.cost -= cost_alone(&subscription);
        self.shared -= usize::from(subscription.share.is_some());
        Some(subscription)
    }
}

/// As it was asked for.
fn text(subscription: &Subscription) -> Cow<'_, str> {
    match subscription.share {
        None => Cow::Borrowed(subscription.filter.as_str()),
        Some(_) => Cow::Owned(subscription.text().as_ref().to_owned()),
    }
}

/// There is always one: it was made of a subscription.
fn parse(text: &[u8]) -> Option<Subscription> {
    Subscription::parse(std::str::from_utf8(text).ok()?).ok()
}

/// The page in which a text is, or would be.
fn page_of(pages: &[Page], text: &[u8]) -> usize {
    pages.partition_point(|page| page.first() <= text).saturating_sub(1)
}

impl Pages {
    fn as_slice(&self) -> &[Page] {
        match self {
            Self::One(page) => std::slice::from_ref(page),
            Self::Many(pages) => pages,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Page] {
        match self {
            Self::One(page) => std::slice::from_mut(page),
            Self::Many(pages) => pages,
        }
    }

    /// `false` if it is there already.
    fn insert(&mut self, text: &[u8]) -> bool {
        let pages = self.as_mut_slice();
        let index = page_of(pages, text);
        let last = index + 1 == pages.len();
        let page = &mut pages[index];
        let place = page.find(text);
        if place.found {
            return false;
        }
        if last && place.at == page.0.len() && page.0.len() >= page.first_end() + PAGE_BYTES_MAX {
            // What comes in order fills its pages.
            self.put_in(index + 1, Page::of(text));
            return true;
        }
        page.insert(text, place);
        self.split(index);
        true
    }

    /// Whether it was there.
    fn remove(&mut self, text: &[u8]) -> bool {
        let pages = self.as_mut_slice();
        let index = page_of(pages, text);
        let place = pages[index].find(text);
        if place.found {
            pages[index].remove(place.at);
            self.tidy(index);
        }
        place.found
    }

    /// Takes the last text out.
    fn pop(&mut self) -> Option<Vec<u8>> {
        let pages = self.as_mut_slice();
        let index = pages.len() - 1;
        let text = pages[index].pop()?;
        self.tidy(index);
        Some(text)
    }

    /// A page has got an entry.
    fn split(&mut self, index: usize) {
        let (mut at, mut until) = (index, index + 1);
        while at < until {
            match self.as_mut_slice()[at].split() {
                Some(half) => {
                    self.put_in(at + 1, half);
                    until += 1;
                }
                None => at += 1,
            }
        }
    }

    fn put_in(&mut self, index: usize, page: Page) {
        if let Self::One(first) = self {
            *self = Self::Many(vec![std::mem::take(first)]);
        }
        if let Self::Many(pages) = self {
            pages.insert(index, page);
        }
    }

    /// A page has lost an entry.
    fn tidy(&mut self, index: usize) {
        let Self::Many(pages) = self else { return };
        if pages[index].0.is_empty() {
            pages.remove(index);
        } else {
            for first in [index, index.saturating_sub(1)] {
                if let Some([one, other]) = pages.get_mut(first..first + 2)
                    && one.0.len() + other.0.len() < PAGES_JOINED_BYTES_MAX
                {
                    one.join(other);
                    pages.remove(first + 1);
                }
            }
        }
        if pages.len() * 4 < pages.capacity() {
            pages.shrink_to_fit();
        }
        if let [page] = &mut pages[..] {
            *self = Self::One(std::mem::take(page));
        }
    }
}

impl Item<'_> {
    /// Makes the text before it, as a whole, its own.
    fn complete(&self, whole: &mut Vec<u8>) {
        whole.truncate(self.shared);
        whole.extend_from_slice(self.text);
    }

    fn end(&self) -> usize {
        self.text_at + self.text.len()
    }
}

impl Page {
    /// A page of one text.
    fn of(text: &[u8]) -> Self {
        let mut page = Self::default();
        page.insert(text, Place { found: false, at: 0, shared: 0, shared_behind: 0 });
        page
    }

    fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let item = self.item(at)?;
            at = item.end();
            Some(item)
        })
    }

    fn item(&self, at: usize) -> Option<Item<'_>> {
        let mut text_at = at;
        let shared = number(&self.0, &mut text_at)?;
        let len = number(&self.0, &mut text_at)?;
        Some(Item { at, text_at, shared, text: self.0.get(text_at..text_at + len)? })
    }

    /// Its first text; empty if it has none.
    fn first(&self) -> &[u8] {
        self.item(0).map_or(&[], |item| item.text)
    }

    fn first_end(&self) -> usize {
        self.item(0).map_or(0, |item| item.end())
    }

    /// What is made of each text.
    fn each<T>(&self, mut make: impl FnMut(&[u8]) -> T) -> impl Iterator<Item = T> {
        let mut whole = Vec::new();
        self.items().map(move |item| {
            item.complete(&mut whole);
            make(&whole)
        })
    }

    /// An entry that shares more with the one before it than `text` does is on the same side of `text`; one that shares less is behind `text`.
    fn find(&self, text: &[u8]) -> Place {
        let mut shared = 0;
        for item in self.items() {
            let Item { at, .. } = item;
            match item.shared.cmp(&shared) {
                Ordering::Greater => continue,
                Ordering::Less => return Place { found: false, at, shared, shared_behind: item.shared },
                Ordering::Equal => {}
            }
            let left = &text[shared..];
            let alike = alike(item.text, left);
            let shared_behind = shared + alike;
            match item.text.get(alike).cmp(&left.get(alike)) {
                Ordering::Less => shared = shared_behind,
                order => return Place { found: order.is_eq(), at, shared, shared_behind },
            }
        }
        Place { found: false, at: self.0.len(), shared, shared_behind: 0 }
    }

    fn insert(&mut self, text: &[u8], place: Place) {
        let mut entry = Vec::with_capacity(text.len() - place.shared + 8);
        let mut until = place.at;
        put_number(&mut entry, place.shared);
        put_number(&mut entry, text.len() - place.shared);
        entry.extend_from_slice(&text[place.shared..]);
        if let Some(behind) = self.item(place.at) {
            // It shares more with this text than with the one before.
            let more = place.shared_behind - behind.shared;
            put_number(&mut entry, place.shared_behind);
            put_number(&mut entry, behind.text.len() - more);
            until = behind.text_at + more;
        }
        self.replace(place.at, until, &entry);
    }

    fn remove(&mut self, at: usize) {
        let Some(item) = self.item(at) else { return };
        let mut until = item.end();
        let mut entry = Vec::new();
        if let Some(behind) = self.item(until) {
            // What it took over from this text, it takes from the one before, or has it by itself.
            let more = behind.shared.saturating_sub(item.shared);
            put_number(&mut entry, behind.shared - more);
            put_number(&mut entry, behind.text.len() + more);
            entry.extend_from_slice(&item.text[..more]);
            until = behind.text_at;
        }
        self.replace(at, until, &entry);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let (mut text, mut at) = (Vec::new(), None);
        for item in self.items() {
            item.complete(&mut text);
            at = Some(item.at);
        }
        self.replace(at?, self.0.len(), &[]);
        Some(text)
    }

    /// Cuts off the second half if there is too much behind the first entry.
    fn split(&mut self) -> Option<Self> {
        if self.0.len() <= self.first_end() + PAGE_BYTES_MAX {
            return None;
        }
        let middle = self.first_end().midpoint(self.0.len());
        let (mut whole, mut cut) = (Vec::new(), (0, 0));
        for item in self.items() {
            item.complete(&mut whole);
            cut = (item.at, item.end());
            if item.at >= middle {
                break;
            }
        }
        let mut half = Self::of(&whole);
        half.replace(half.0.len(), half.0.len(), &self.0[cut.1..]);
        self.replace(cut.0, self.0.len(), &[]);
        Some(half)
    }

    /// Takes the entries of the page behind it.
    fn join(&mut self, behind: &Self) {
        for text in behind.each(<[u8]>::to_vec) {
            let place = self.find(&text);
            self.insert(&text, place);
        }
    }

    fn replace(&mut self, from: usize, until: usize, with: &[u8]) {
        let len = self.0.len() - (until - from) + with.len();
        if len > self.0.capacity() {
            let room = if self.0.is_empty() { len } else { len.next_multiple_of(PAGE_STEP_BYTES) };
            self.0.reserve_exact(room - self.0.len());
        }
        self.0.splice(from..until, with.iter().copied());
        if self.0.capacity() > len + 2 * PAGE_STEP_BYTES {
            self.0.shrink_to(len.next_multiple_of(PAGE_STEP_BYTES));
        }
    }
}

/// How many bytes at the beginning are the same.
fn alike(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 16;
    let (ones, others) = (one.chunks_exact(STEP), other.chunks_exact(STEP));
    let whole = ones.zip(others).take_while(|(one, other)| one == other).count() * STEP;
    whole + one[whole..].iter().zip(&other[whole..]).take_while(|(one, other)| one == other).count()
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        out.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return;
        }
    }
}

/// A number, and goes behind it.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::broker::topic::TopicFilter;

    /// Texts that share beginnings, also within a character and longer than a page, and some that are shared subscriptions.
    fn subscription() -> impl Strategy<Value = Subscription> {
        let share = prop::sample::select(vec![None, None, None, Some("x")]);
        let level = prop::sample::select(vec!["a", "b", "ä", "ö", "machine", "temperature", "+"]);
        let long = prop::sample::select(vec![0, 0, 0, 0, 200, 300]);
        (share, vec(level, 1..6), long, 0_u32..200).prop_map(|(share, levels, long, number)| Subscription {
            share: share.map(Arc::from),
            filter: TopicFilter::new(format!("{}/{}/{number}", "x".repeat(long), levels.join("/"))).unwrap(),
        })
    }

    fn is_in_order(filters: &Filters) {
        let pages = filters.pages.as_slice();
        let texts: Vec<Vec<u8>> = pages.iter().flat_map(|page| page.each(<[u8]>::to_vec)).collect();
        assert!(texts.is_sorted_by(|one, other| one < other) && texts.len() == filters.len());
        for page in pages {
            let behind = page.0.len() - page.first_end();
            assert!(behind <= PAGE_BYTES_MAX, "{behind} bytes behind the first");
            assert!(page.0.capacity() <= page.0.len() + 2 * PAGE_STEP_BYTES);
        }
        assert!(pages.len() == 1 || pages.iter().all(|page| !page.0.is_empty()));
    }

    proptest! {
        #[test]
        fn they_are_what_a_set_of_texts_is(
            steps in vec((0_u8..10, subscription()), 1..400),
            mostly in 2_u8..9,
        ) {
            let (mut filters, mut set) = (Filters::default(), BTreeSet::new());
            for (step, subscription) in steps {
                if step < mostly {
                    prop_assert_eq!(filters.insert(&subscription), set.insert(subscription.text()));
                } else if step == 9 {
                    let popped = filters.pop();
                    prop_assert_eq!(popped.is_some(), !set.is_empty());
                    prop_assert!(popped.is_none_or(|popped| set.remove(&popped.text())));
                } else {
                    prop_assert_eq!(filters.contains(&subscription), set.contains(&subscription.text()));
                    prop_assert_eq!(filters.remove(&subscription), set.remove(&subscription.text()));
                }
                prop_assert_eq!(filters.len(), set.len());
                is_in_order(&filters);
            }
            prop_assert_eq!(filters.has_shared(), set.iter().any(|text| text.starts_with("$share/")));
            let listed: Vec<_> = filters.iter().map(|subscription| subscription.text()).collect();
            prop_assert_eq!(listed, set.iter().cloned().collect::<Vec<_>>());
            for text in &set {
                prop_assert!(filters.contains(&Subscription::parse(text).unwrap()));
            }
            while let Some(popped) = filters.pop() {
                prop_assert!(set.remove(&popped.text()));
            }
            prop_assert!(set.is_empty() && filters.is_empty() && !filters.has_shared() && filters.cost() == 0);
        }
    }

    /// Bytes of all pages, with what the allocator adds.
    fn bytes(filters: &Filters) -> usize {
        let pages = filters.pages.as_slice();
        pages
            .iter()
            .map(|page| size_of::<Page>() + (page.0.capacity() + 8).next_multiple_of(16).max(32))
            .sum()
    }

    #[test]
    fn filters_that_are_alike_take_some_bytes_each_in_any_order() {
        let own = |number: usize| {
            let text = format!("plant7/hall2/machine{:02}/value{:03}", number / 100, number % 100);
            Subscription::own(TopicFilter::new(text).unwrap())
        };
        let (mut in_order, mut mixed) = (Filters::default(), Filters::default());
        for number in 0..1000 {
            in_order.insert(&own(number));
            mixed.insert(&own(number * 617 % 1000));
        }
        let (ordered, mixed_up) = (bytes(&in_order) / 1000, bytes(&mixed) / 1000);
        assert!(ordered <= 8 && mixed_up <= 12, "{ordered} and {mixed_up} bytes a filter");
        for number in 0..990 {
            assert!(mixed.remove(&own(number * 617 % 1000)));
        }
        assert!(bytes(&mixed) <= 1200, "{} bytes for ten", bytes(&mixed));
    }

    #[test]
    fn texts_of_the_greatest_length_with_one_beginning_take_it_once_a_page() {
        let mut filters = Filters::default();
        let beginning = "x".repeat(65_000);
        for number in 0..200 {
            let text = format!("{beginning}{:03}", number * 7 % 200);
            filters.insert(&Subscription::own(TopicFilter::new(text).unwrap()));
        }
        is_in_order(&filters);
        assert!(filters.len() == 200 && bytes(&filters) < 20 * 65_000, "{}", bytes(&filters));
    }
}
