//! Certificates ("RFC 5280", 4), as far as a person has to be told of them: what they are made for, whether they stand in order, and how long they are
//! good. Nothing is verified here; rustls does that in the handshake.
//!
//! ```text
//! DER --Certificate::read--> what it says of itself --remarks--> sentences
//!                                          `-- Span::of, Span::term (trusted wall time) --> fine, ends soon, has ended
//! ```

use std::fmt;

use super::crl::{Moment, moment};
use super::der::Der;

const BOOLEAN: u8 = 0x01;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.17
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.37.0
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// 1.3.6.1.5.5.7.3.2
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// keyCertSign, bit 5 of the key usage (RFC 5280, 4.2.1.3).
const SIGNS_CERTIFICATES: u8 = 0x04;

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// Days before its end at which a person is told, the last one first.
pub const WARN_DAYS: [u64; 3] = [1, 7, 30];

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// Whom it is for: a name, in DER.
    pub subject: &'a [u8],
    /// Who made it: a name, in DER.
    pub issuer: &'a [u8],
    /// From when on it is good.
    pub begins: Moment,
    /// The last moment at which it is good.
    pub ends: Moment,
    /// Version 1 has no extensions; those who check certificates refuse it, but for an authority.
    pub is_version_1: bool,
    /// Whether it may make other certificates.
    pub is_authority: bool,
    /// Whether it names hosts or addresses.
    pub is_named: bool,
    /// Whether it may be a server's; without such a list it may be everything.
    pub for_servers: bool,
    /// Whether it may be a client's.
    pub for_clients: bool,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER; `None` is one that cannot be understood.
    #[must_use]
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut fields = Der::of(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
        let is_version_1 = fields.peek() != Some(VERSION);
        if !is_version_1 {
            fields.next()?;
        }
        // Behind serial number and signature.
        let (_, issuer) = fields.nth(2)?;
        let mut validity = fields.enter(SEQUENCE)?;
        let (begins, ends) = (moment(validity.next()?)?, moment(validity.next()?)?);
        let (_, subject) = fields.next()?;
        let mut certificate = Self {
            subject,
            issuer,
            begins,
            ends,
            is_version_1,
            is_authority: false,
            is_named: false,
            for_servers: true,
            for_clients: true,
        };
        if let Some((_, extensions)) = fields.find(|(tag, _)| *tag == EXTENSIONS) {
            certificate.extend(extensions)?;
        }
        Some(certificate)
    }

    fn extend(&mut self, extensions: &[u8]) -> Option<()> {
        let mut may_sign = true;
        let mut extensions = Der::of(extensions).enter(SEQUENCE)?;
        while let Some(mut extension) = extensions.enter(SEQUENCE) {
            let kind = extension.enter(OID)?.rest();
            if extension.peek() == Some(BOOLEAN) {
                extension.next()?;
            }
            let mut value = extension.enter(OCTETS)?;
            match kind {
                BASIC_CONSTRAINTS => {
                    let (tag, content) = value.enter(SEQUENCE)?.next().unwrap_or_default();
                    self.is_authority = tag == BOOLEAN && content.iter().any(|byte| *byte != 0);
                }
                KEY_USAGE => {
                    // The first byte counts the bits that are not used.
                    let bits = value.enter(BITS)?.rest();
                    may_sign = bits.get(1).is_some_and(|byte| byte & SIGNS_CERTIFICATES != 0);
                }
                ALTERNATIVE_NAME => self.is_named = value.enter(SEQUENCE)?.next().is_some(),
                EXTENDED_KEY_USAGE => {
                    let purposes: Vec<_> = value.enter(SEQUENCE)?.map(|(_, purpose)| purpose).collect();
                    let may = |wanted| purposes.iter().any(|p| *p == wanted || *p == ANY_PURPOSE);
                    (self.for_servers, self.for_clients) = (may(SERVER_AUTH), may(CLIENT_AUTH));
                }
                _ => {}
            }
        }
        self.is_authority &= may_sign;
        Some(())
    }

    /// Whether certificates can come from it: an authority, or one that answers for itself.
    #[must_use]
    pub fn vouches(&self) -> bool {
        self.is_authority || self.is_version_1 || self.subject == self.issuer
    }
}

/// What this gateway shows a certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A listener, to its clients.
    Server,
    /// An uplink, to its server.
    Client,
}

/// What is odd about a certificate that works here: the other side may refuse it. Printed behind the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// It is made for something else.
    Purpose(Purpose),
    /// It is an authority's.
    Authority,
    /// It names no host.
    Nameless,
    /// The chain behind it is not in order.
    Order,
    /// One of the chain has version 1.
    Version1,
}

/// Looks at the own certificate and the chain behind it.
#[must_use]
pub fn remarks(chain: &[Certificate<'_>], purpose: Purpose) -> Vec<Remark> {
    let Some(own) = chain.first() else { return Vec::new() };
    let made_for = match purpose {
        Purpose::Server => own.for_servers,
        Purpose::Client => own.for_clients,
    };
    let order = chain.windows(2).all(|pair| pair[0].issuer == pair[1].subject);
    let old = chain.iter().skip(1).any(|link| link.is_version_1 && link.subject != link.issuer);
    let found = [
        (!made_for, Remark::Purpose(purpose)),
        (own.is_authority, Remark::Authority),
        (purpose == Purpose::Server && !own.is_named, Remark::Nameless),
        (!order, Remark::Order),
        (old, Remark::Version1),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, remark)| remark).collect()
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Purpose(Purpose::Server) => {
                "is not made for servers (its extended key usage lacks serverAuth), so clients that check certificates do not come: ask the \
                 authority for a certificate for servers"
            }
            Self::Purpose(Purpose::Client) => {
                "is not made for clients (its extended key usage lacks clientAuth), so servers that check certificates refuse it: ask the \
                 authority for a certificate for clients"
            }
            Self::Authority => {
                "is the certificate of an authority, which many refuse as one of a server or of a client, expected one that the authority made \
                 for this gateway: ask for it"
            }
            Self::Nameless => {
                "names no host (it lacks a subjectAltName), so most clients that check certificates do not come: ask the authority for one with \
                 the name or address by which clients call this gateway"
            }
            Self::Order => {
                "holds its certificates in another order than some peers take, expected the gateway's own first and behind each the one that \
                 made it: sort them"
            }
            Self::Version1 => {
                "holds an authority's certificate of version 1 in its chain, which peers refuse, expected version 3: ask the authority for it"
            }
        })
    }
}

/// From when until when certificates are good together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The beginning of the last of them.
    pub begins: Moment,
    /// The end of the first of them.
    pub ends: Moment,
}

/// How a certificate stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// It is good for more than a month.
    Fine,
    /// It begins later.
    NotYet,
    /// It ends within so many days, one of [`WARN_DAYS`].
    Within(u64),
    /// It has ended.
    Ended,
}

impl Span {
    /// The time in which all of a chain are good; `None` for an empty one.
    #[must_use]
    pub fn of(chain: &[Certificate<'_>]) -> Option<Self> {
        let begins = chain.iter().map(|certificate| &certificate.begins).max_by_key(|at| at.seconds)?;
        let ends = chain.iter().map(|certificate| &certificate.ends).min_by_key(|at| at.seconds)?;
        Some(Self { begins: begins.clone(), ends: ends.clone() })
    }

    /// How it stands. `now_s` is a wall time that can be believed, seconds since 1970: by a clock that was never set every certificate is not good yet.
    #[must_use]
    pub fn term(&self, now_s: u64) -> Term {
        let Some(left_s) = self.ends.seconds.checked_sub(now_s) else { return Term::Ended };
        if now_s < self.begins.seconds {
            return Term::NotYet;
        }
        let within = WARN_DAYS.into_iter().find(|days| left_s < days * DAY_S);
        within.map_or(Term::Fine, Term::Within)
    }

    /// What a person has to be told, behind the name of the file; nothing while it is fine. The same text for as long as the term is the same.
    #[must_use]
    pub fn remark(&self, term: Term) -> Option<String> {
        let renew =
            "ask the authority for the next one and put it in this place, with its key; no restart is needed";
        match term {
            Term::Fine => None,
            Term::NotYet => Some(format!(
                "begins on {}: until then peers refuse it; is it the right one?",
                self.begins.date()
            )),
            Term::Within(1) => Some(format!("ends on {}, in less than a day: {renew}", self.ends.date())),
            Term::Within(days) => {
                Some(format!("ends on {}, in less than {days} days: {renew}", self.ends.date()))
            }
            Term::Ended => Some(format!("ended on {}, so peers refuse it: {renew}", self.ends.date())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment { seconds, day: (2026, 11, 29) }
    }

    fn certificate(subject: &'static [u8], issuer: &'static [u8]) -> Certificate<'static> {
        Certificate {
            subject,
            issuer,
            begins: at(0),
            ends: at(1_000_000_000),
            is_version_1: false,
            is_authority: false,
            is_named: true,
            for_servers: true,
            for_clients: true,
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_understood_and_never_stops_us() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\x30\x00", b"\x30\x84\xff\xff\xff\xff"] {
            assert_eq!(Certificate::read(bytes), None);
        }
    }

    #[test]
    fn a_certificate_is_told_of_a_month_a_week_and_a_day_before_its_end() {
        let day = 86_400;
        let span = Span { begins: at(100 * day), ends: at(200 * day) };
        let check = |now_s, expected| assert_eq!(span.term(now_s), expected, "at {now_s}");
        check(100 * day - 1, Term::NotYet);
        check(100 * day, Term::Fine);
        check(170 * day, Term::Fine);
        check(170 * day + 1, Term::Within(30));
        check(193 * day, Term::Within(30));
        check(193 * day + 1, Term::Within(7));
        check(199 * day + 1, Term::Within(1));
        check(200 * day, Term::Within(1));
        check(200 * day + 1, Term::Ended);
        check(u64::MAX, Term::Ended);
        assert_eq!(span.remark(Term::Fine), None);
        let ended = span.remark(Term::Ended).unwrap();
        assert!(ended.starts_with("ended on 2026-11-29, so peers refuse it: ask"), "{ended}");
    }

    #[test]
    fn a_clock_of_1970_says_of_no_certificate_that_it_has_ended() {
        let span = Span { begins: at(1_700_000_000), ends: at(1_800_000_000) };
        assert_eq!(span.term(0), Term::NotYet);
    }

    #[test]
    fn a_chain_is_as_good_as_the_weakest_of_it() {
        let mut chain = vec![certificate(b"device", b"middle"), certificate(b"middle", b"root")];
        chain[1].begins = at(50);
        chain[1].ends = at(900);
        assert_eq!(Span::of(&chain), Some(Span { begins: at(50), ends: at(900) }));
        assert_eq!(Span::of(&[]), None);
    }

    #[test]
    fn a_good_chain_has_no_remark_and_each_odd_one_has_its_own() {
        let good = || vec![certificate(b"device", b"middle"), certificate(b"middle", b"root")];
        let check = |change: fn(&mut Vec<Certificate<'_>>), purpose, expected: &[Remark]| {
            let mut chain = good();
            change(&mut chain);
            assert_eq!(remarks(&chain, purpose), expected);
        };
        check(|_| {}, Purpose::Server, &[]);
        check(|_| {}, Purpose::Client, &[]);
        check(|chain| chain[0].for_servers = false, Purpose::Server, &[Remark::Purpose(Purpose::Server)]);
        check(|chain| chain[0].for_servers = false, Purpose::Client, &[]);
        check(|chain| chain[0].for_clients = false, Purpose::Client, &[Remark::Purpose(Purpose::Client)]);
        check(|chain| chain[0].is_authority = true, Purpose::Server, &[Remark::Authority]);
        check(|chain| chain[0].is_named = false, Purpose::Server, &[Remark::Nameless]);
        check(|chain| chain[0].is_named = false, Purpose::Client, &[]);
        check(|chain| chain.swap(0, 1), Purpose::Client, &[Remark::Order]);
        check(|chain| chain[1].is_version_1 = true, Purpose::Client, &[Remark::Version1]);
        check(|chain| chain.truncate(0), Purpose::Client, &[]);
    }
}
