//! Argon2id, and its text.

use std::io;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use gateway_core::broker::access::phc;

use super::base64;

/// Memory of a comparison with a hash that is made here, KiB.
pub const MEMORY_KIB: u32 = 7 * 1024;

/// Passes over that memory.
pub const PASSES: u32 = 5;

/// Bytes of salt: 16 are enough for all uses (RFC 9106, 3.1).
const SALT_BYTES: usize = 16;

/// Bytes of digest.
const DIGEST_BYTES: usize = 32;

/// Hash of a password, with a salt from the system.
///
/// # Errors
/// The system gave no random bytes.
pub fn make(password: &[u8]) -> io::Result<String> {
    let mut salt = [0; SALT_BYTES];
    let mut filled = 0;
    while filled < SALT_BYTES {
        filled += rustix::rand::getrandom(&mut salt[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let digest = digest(password, &salt, (MEMORY_KIB, PASSES, 1), DIGEST_BYTES).unwrap_or_default();
    let (salt, digest) = (base64::encode(&salt), base64::encode(&digest));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${salt}${digest}"))
}

/// Whether a password is the one of a hash. Takes the time and memory that the hash asks for, within the bounds of [`phc`].
#[must_use]
pub fn compare(password: &[u8], hash: &str) -> bool {
    let Ok(parts) = phc::parse(hash) else { return false };
    let (Some(salt), Some(wanted)) = (base64::decode(parts.salt), base64::decode(parts.digest)) else {
        return false;
    };
    let Some(found) = digest(password, &salt, (parts.m, parts.t, parts.p), wanted.len()) else {
        return false;
    };
    // Every byte is looked at, so that the time says nothing about how many are right.
    let differences = found.iter().zip(&wanted).fold(0, |all, (a, b)| all | (a ^ b));
    found.len() == wanted.len() && !wanted.is_empty() && differences == 0
}

fn digest(password: &[u8], salt: &[u8], (m, t, p): (u32, u32, u32), len: usize) -> Option<Vec<u8>> {
    let params = Params::new(m, t, p, Some(len)).ok()?;
    let mut digest = vec![0; len];
    let mut memory = vec![Block::default(); params.block_count()];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut digest, &mut memory)
        .ok()?;
    Some(digest)
}
