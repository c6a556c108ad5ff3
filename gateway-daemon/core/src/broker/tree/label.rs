//! The name of a level in sixteen bytes: most are short and stand in them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;

/// Longest name that takes no memory of its own, bytes.
const SHORT_MAX: usize = 14;

/// Longest name that takes one piece of memory: with what the allocator adds it is as large as one for 25 bytes. A UUID fits.
const MEDIUM_MAX: usize = 40;

/// The name of a level, ordered as its text is.
pub(super) enum Label {
    /// Its length and its bytes.
    Short(u8, [u8; SHORT_MAX]),
    /// The same.
    Medium(u8, Box<[u8; MEDIUM_MAX]>),
    /// Whatever is longer. Boxed twice, because length and place together are sixteen bytes already.
    Long(Box<Box<[u8]>>),
}

impl Label {
    pub(super) fn new(name: &str) -> Self {
        let name = name.as_bytes();
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[..name.len()].copy_from_slice(name);
                Self::Short(len, bytes)
            }
            Ok(len) if name.len() <= MEDIUM_MAX => {
                let mut bytes = Box::new([0; MEDIUM_MAX]);
                bytes[..name.len()].copy_from_slice(name);
                Self::Medium(len, bytes)
            }
            _ => Self::Long(Box::new(name.into())),
        }
    }

    /// Bytes of memory that a name takes beside the sixteen.
    pub(super) fn cost(name: &str) -> usize {
        match name.len() {
            len if len <= SHORT_MAX => 0,
            len if len <= MEDIUM_MAX => 48,
            len => 32 + (len + 8).next_multiple_of(16),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Medium(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.as_bytes() == name.as_bytes()
    }
}

impl Borrow<[u8]> for Label {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Label {}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::Label;

    #[test]
    fn a_label_is_its_name_at_every_length_and_small() {
        assert_eq!(size_of::<Label>(), 16);
        let long = "ä".repeat(150);
        let ends: Vec<usize> = long.char_indices().map(|(at, _)| at).collect();
        for end in ends {
            let label = Label::new(&long[..end]);
            assert!(label.is(&long[..end]) && !label.is("x"));
            assert!(label < Label::new(&format!("{}a", &long[..end])));
            assert_eq!(format!("{label:?}"), format!("{:?}", &long[..end]));
        }
    }
}
