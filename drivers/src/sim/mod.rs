//! The simulated field: slaves that answer as real ones do, and lines that fail as real ones do. Ships with the product: `demo`
//! and every bus with `driver = "sim"` are made of it.
//!
//! - [`slave`]: a Modbus server over any [`slave::Tables`], PDU in, PDU out (pure).
//! - [`model`]: tables of believable devices: a power meter, a temperature controller, an IO module (pure).
//! - [`soak`]: the RTU master against late, noisy, echoing lines in virtual time (pure).
//! - [`mod@line`]: an emulated serial line: a pseudo terminal joined to another, or to slaves, at its true baud rate.
//! - [`serve`]: slaves behind a byte stream (RTU) or a TCP listener.
//!
//! Randomness is always drawn from a seed, so that every run can be repeated.

pub mod line;
pub mod model;
pub mod serve;
pub mod slave;
pub mod soak;

/// Pseudo-random numbers from a seed (SplitMix64, Steele et al. 2014): good enough for faults, useless for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end` (0 for 0).
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or(0)
    }

    /// True once in `times`, never for 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Spreads 64 bits over 64 bits.
#[must_use]
pub fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
