//! Counts denied requests by address, and throttles addresses with too many of them. Tokens that were accepted from an
//! address before are still accepted, since many clients may share an address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The period over which denials are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of addresses kept in memory.
const ADDRESSES: usize = 4096;
/// Maximum number of accepted tokens kept per address.
const TOKENS: usize = 256;

/// The denied requests of each address.
pub(crate) struct Denials {
    /// Number of denials allowed per address and window; 0 for no limit.
    allowed: u32,
    hasher: RandomState,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

struct Address {
    since: Instant,
    denied: u32,
    /// Hashes of the tokens that were accepted.
    known: Vec<u64>,
}

impl Address {
    fn new() -> Self {
        Self { since: Instant::now(), denied: 0, known: Vec::new() }
    }

    fn count(&mut self) -> u32 {
        if self.since.elapsed() > WINDOW {
            (self.since, self.denied) = (Instant::now(), 0);
        }
        self.denied
    }
}

impl Denials {
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed, hasher: RandomState::new(), addresses: Mutex::default() }
    }

    fn with<T>(&self, address: IpAddr, act: impl FnOnce(&mut Address) -> T) -> T {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&network) {
            addresses.retain(|_, address| address.since.elapsed() <= WINDOW);
            if addresses.len() >= ADDRESSES {
                addresses.clear();
            }
        }
        act(addresses.entry(network).or_insert_with(Address::new))
    }

    /// Returns whether a request must be rejected without identifying its caller. This is so if the address has reached its
    /// limit and the token was not accepted from it before.
    pub(crate) fn must_wait(&self, address: IpAddr, token: Option<&str>) -> bool {
        if self.allowed == 0 {
            return false;
        }
        let hash = token.map(|token| self.hasher.hash_one(token));
        self.with(address, |address| {
            address.count() >= self.allowed && !hash.is_some_and(|hash| address.known.contains(&hash))
        })
    }

    /// Records that a token was accepted.
    pub(crate) fn let_in(&self, address: IpAddr, token: &str) {
        if self.allowed == 0 {
            return;
        }
        let hash = self.hasher.hash_one(token);
        self.with(address, |address| {
            if !address.known.contains(&hash) && address.known.len() < TOKENS {
                address.known.push(hash);
            }
        });
    }

    /// Records a denied request. Returns the number of denials beyond the limit.
    pub(crate) fn denied(&self, address: IpAddr) -> u32 {
        self.with(address, |address| {
            address.denied = address.count().saturating_add(1);
            if self.allowed == 0 { 0 } else { address.denied.saturating_sub(self.allowed) }
        })
    }
}

/// Returns the key that denials are counted under. For IPv6 it is the /64 network, since a client usually controls a whole
/// one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_too_many_denials_waits_and_no_other_does() {
        let denials = Denials::new(2);
        let (one, other) = ("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"));
        denials.let_in(one, "good");
        assert_eq!((denials.denied(one), denials.denied(one)), (0, 0));
        assert!(denials.must_wait(one, None) && denials.must_wait(one, Some("guess")));
        assert!(!denials.must_wait(one, Some("good")), "other clients share the address");
        assert!(!denials.must_wait(other, Some("guess")));
        assert_eq!(denials.denied(one), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let denials = Denials::new(1);
        for number in 0..10_000_u32 {
            denials.denied(IpAddr::V4(number.into()));
        }
        assert!(denials.addresses.lock().expect("the addresses").len() <= ADDRESSES);
        let address = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
