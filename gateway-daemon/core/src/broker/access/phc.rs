//! Hashes of passwords as text: `$argon2id$v=19$m=7168,t=5,p=1$SALT$DIGEST` (the "PHC string format").

/// Most memory that one comparison may take, KiB: 64 MiB, an eighth of the smallest Pi, and one comparison runs at a time.
pub const MEMORY_KIB_MAX: u32 = 64 * 1024;

/// Most memory times passes, KiB: one comparison stays below about a second on a Pi.
pub const WORK_KIB_MAX: u32 = 4 * MEMORY_KIB_MAX;

/// Most lanes.
pub const LANES_MAX: u32 = 4;

/// Bytes of salt (RFC 9106, 3.1, asks for 8 at least).
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;

/// Bytes of digest; fewer than 16 could be guessed.
const DIGEST_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Why a text is not a hash that can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhcError {
    /// It does not begin with `$argon2id$`.
    #[error("it does not begin with $argon2id$")]
    Algorithm,
    /// It is another version than 19.
    #[error("it is of another version of Argon2 than 19")]
    Version,
    /// It has not five parts, or one of them is damaged.
    #[error("it is damaged or cut off")]
    Form,
    /// It asks for more than [`MEMORY_KIB_MAX`], [`WORK_KIB_MAX`] or [`LANES_MAX`].
    #[error("it asks for too much: m = {m} KiB, t = {t}, p = {p}")]
    Cost {
        /// Memory, KiB.
        m: u32,
        /// Passes.
        t: u32,
        /// Lanes.
        p: u32,
    },
}

/// A hash of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phc<'a> {
    /// Memory, KiB.
    pub m: u32,
    /// Passes.
    pub t: u32,
    /// Lanes.
    pub p: u32,
    /// Base64 without padding.
    pub salt: &'a str,
    /// Base64 without padding.
    pub digest: &'a str,
}

/// Reads a hash whose comparison stays within bounds.
///
/// # Errors
/// Says what the text is instead. The text itself is not repeated.
pub fn parse(text: &str) -> Result<Phc<'_>, PhcError> {
    let rest = text.strip_prefix("$argon2id$").ok_or(PhcError::Algorithm)?;
    let mut parts = rest.split('$');
    let mut next = || parts.next().ok_or(PhcError::Form);
    let (version, cost, salt, digest) = (next()?, next()?, next()?, next()?);
    if next().is_ok() {
        return Err(PhcError::Form);
    }
    if version != "v=19" {
        return Err(PhcError::Version);
    }
    let mut numbers = cost.split(',');
    let mut number = |key: &str| -> Result<u32, PhcError> {
        let digits = numbers.next().and_then(|n| n.strip_prefix(key)).ok_or(PhcError::Form)?;
        let plain =
            !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { Ok(digits.parse().unwrap_or(u32::MAX)) } else { Err(PhcError::Form) }
    };
    let (m, t, p) = (number("m=")?, number("t=")?, number("p=")?);
    // At least eight blocks for each lane (RFC 9106, 3.1).
    if numbers.next().is_some() || !bytes(salt, SALT_BYTES) || !bytes(digest, DIGEST_BYTES) || m / 8 < p {
        return Err(PhcError::Form);
    }
    if m > MEMORY_KIB_MAX || m.saturating_mul(t) > WORK_KIB_MAX || p > LANES_MAX {
        return Err(PhcError::Cost { m, t, p });
    }
    Ok(Phc { m, t, p, salt, digest })
}

/// Whether a text is Base64 without padding of so many bytes.
fn bytes(text: &str, range: std::ops::RangeInclusive<usize>) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    text.bytes().all(good) && text.len() % 4 != 1 && range.contains(&(text.len() * 3 / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), PhcError> {
        parse(text).map(drop)
    }

    const SALT: &str = "c29tZXNhbHQ";
    const DIGEST: &str = "Zm9vYmFyYmF6Zm9vYmFyYmF6";

    #[test]
    fn hashes_of_this_and_other_programs_are_taken() {
        for cost in ["m=7168,t=5,p=1", "m=65536,t=3,p=4", "m=19456,t=2,p=1", "m=8,t=1,p=1"] {
            assert_eq!(check(&format!("$argon2id$v=19${cost}${SALT}${DIGEST}")), Ok(()), "{cost}");
        }
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused_with_its_reason() {
        let full = |cost: &str| check(&format!("$argon2id$v=19${cost}${SALT}${DIGEST}"));
        assert_eq!(check("hunter2"), Err(PhcError::Algorithm));
        assert_eq!(check("$7$101$c2FsdA$aGFzaA"), Err(PhcError::Algorithm));
        assert_eq!(check(&format!("$argon2id$v=16$m=8,t=1,p=1${SALT}${DIGEST}")), Err(PhcError::Version));
        assert_eq!(full("m=65537,t=1,p=1"), Err(PhcError::Cost { m: 65_537, t: 1, p: 1 }));
        assert_eq!(full("m=65536,t=5,p=1"), Err(PhcError::Cost { m: 65_536, t: 5, p: 1 }));
        assert_eq!(full("m=4096,t=1,p=5"), Err(PhcError::Cost { m: 4096, t: 1, p: 5 }));
        assert!(matches!(full("m=99999999999,t=1,p=1"), Err(PhcError::Cost { .. })));
        for cost in [
            "",
            "m=8",
            "m=8,t=1",
            "m=8,t=1,p=1,x=1",
            "t=1,m=8,p=1",
            "m=7,t=1,p=1",
            "m=8,t=0,p=1",
            "m=+8,t=1,p=1",
        ] {
            assert_eq!(full(cost), Err(PhcError::Form), "{cost}");
        }
        for text in [
            "$argon2id$v=19$m=8,t=1,p=1".to_owned(),
            format!("$argon2id$v=19$m=8,t=1,p=1${SALT}$"),
            format!("$argon2id$v=19$m=8,t=1,p=1$${DIGEST}"),
            format!("$argon2id$v=19$m=8,t=1,p=1${SALT}${DIGEST}$"),
            format!("$argon2id$v=19$m=8,t=1,p=1${SALT}${DIGEST}="),
            format!("$argon2id$v=19$m=8,t=1,p=1${SALT}${}", "A".repeat(200)),
        ] {
            assert_eq!(check(&text), Err(PhcError::Form), "{text}");
        }
    }
}
