//! Base64 without padding (RFC 4648, 4), as PHC texts have it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().chain(&[0; 3]).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for at in 0..=chunk.len() {
            out.push(char::from(ALPHABET[word >> (18 - 6 * at) & 63]));
        }
    }
    out
}

/// `None` for what is not the one text of some bytes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for byte in chunk {
            let digit = ALPHABET.iter().position(|letter| letter == byte)?;
            word = word << 6 | u32::try_from(digit).ok()?;
        }
        let spare = 4 - chunk.len();
        let bytes = (word << (6 * spare)).to_be_bytes();
        let whole = 3_usize.checked_sub(spare)?;
        if whole == 0 || bytes[1 + whole..].iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(&bytes[1..=whole]);
    }
    Some(out)
}
