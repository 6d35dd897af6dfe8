//! Which addresses a request must never reach: the table of contract §9, and nothing else. Pure: no names, no sockets.
//!
//! IPv6 is judged the other way round from IPv4: only `2000::/3` has ever been allotted to public hosts, so everything
//! outside of it is refused even where the contract names no range, and inside of it the ranges which wrap an IPv4
//! address (6to4, Teredo, ISATAP) are refused whatever they wrap. v4-mapped addresses are refused even when the
//! wrapped address is public: a real receiver is published in an A record.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// Why an address is refused. The names are those of the IANA special-purpose registries (RFC 6890 and successors).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `0.0.0.0/8` and `::`: "this host", which Linux connects to itself.
    ThisNetwork,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `10/8`, `172.16/12`, `192.168/16` (RFC 1918).
    Private,
    /// `100.64.0.0/10` (RFC 6598): carrier-grade NAT, and the inside of several clouds.
    Shared,
    /// `169.254.0.0/16` and `fe80::/10`: also where clouds serve their credentials.
    LinkLocal,
    /// `192.0.0.0/24` and `2001::/23`: protocols of the IETF, ORCHID and DRIP identifiers among them.
    ProtocolAssignment,
    /// Ranges for examples in texts (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// `198.18.0.0/15` (RFC 2544).
    Benchmarking,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4` with the broadcast address.
    Reserved,
    /// `::/8`, where IPv4 addresses are mapped, translated or "compatible" (RFC 4291).
    Embedded,
    /// `64:ff9b::/96` and `64:ff9b:1::/48` (RFC 6052, RFC 8215): a gateway would turn these into any IPv4 address.
    Nat64,
    /// `100::/64` (RFC 6666).
    Discard,
    /// `2001::/32` (RFC 4380): wraps an IPv4 address.
    Teredo,
    /// `2002::/16` (RFC 3056): wraps an IPv4 address.
    SixToFour,
    /// An interface identifier `[02]00:5efe:a.b.c.d` under any prefix (RFC 5214): wraps an IPv4 address.
    Isatap,
    /// `5f00::/16` (RFC 9602): segment routing inside a network.
    SegmentRouting,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `fec0::/10` (RFC 3879): deprecated, still routed in places.
    SiteLocal,
    /// IPv6 outside of `2000::/3`: allotted to nobody.
    Unallotted,
}

impl Reason {
    /// The words a person reads, as a noun phrase without an article: `private network`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ThisNetwork => "unspecified address",
            Self::Loopback => "loopback",
            Self::Private => "private network",
            Self::Shared => "shared carrier network",
            Self::LinkLocal => "link-local network",
            Self::ProtocolAssignment => "reserved for protocols",
            Self::Documentation => "reserved for documentation",
            Self::Benchmarking => "reserved for benchmarks",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved address",
            Self::Embedded => "IPv4 address inside IPv6",
            Self::Nat64 => "NAT64 translation",
            Self::Discard => "discard-only address",
            Self::Teredo => "Teredo tunnel",
            Self::SixToFour => "6to4 tunnel",
            Self::Isatap => "ISATAP tunnel",
            Self::SegmentRouting => "segment routing identifier",
            Self::UniqueLocal => "unique local network",
            Self::SiteLocal => "site-local network",
            Self::Unallotted => "not a public address",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The table, with the ranges that an operator opened for development in front of it.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    allow: Arc<[IpNet]>,
}

impl Guard {
    pub(crate) fn new(allow: &[IpNet]) -> Self {
        Self { allow: allow.into() }
    }

    /// `None`: the address may be reached. An opened range opens exactly the addresses it spells: `127.0.0.0/8` does
    /// not open `::ffff:127.0.0.1`.
    pub(crate) fn verdict(&self, ip: IpAddr) -> Option<Reason> {
        if self.allow.iter().any(|range| range.contains(&ip)) { None } else { verdict(ip) }
    }
}

/// The table itself. `None`: a public address.
pub(crate) fn verdict(ip: IpAddr) -> Option<Reason> {
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    }
}

/// First address, prefix length, reason.
const V4: [(Ipv4Addr, u32, Reason); 14] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Reason::ThisNetwork),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reason::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reason::Shared),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reason::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reason::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reason::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reason::ProtocolAssignment),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reason::Documentation),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reason::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reason::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reason::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reason::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Reason::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Reason::Reserved),
];

/// As [`V4`]; the narrower range stands first, so that the reason is the telling one.
const V6: [(Ipv6Addr, u32, Reason); 18] = [
    (Ipv6Addr::UNSPECIFIED, 128, Reason::ThisNetwork),
    (Ipv6Addr::LOCALHOST, 128, Reason::Loopback),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, Reason::Nat64),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Reason::Nat64),
    (Ipv6Addr::UNSPECIFIED, 8, Reason::Embedded),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, Reason::Discard),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Reason::Teredo),
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28, Reason::ProtocolAssignment),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Reason::ProtocolAssignment),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Reason::Documentation),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Reason::SixToFour),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Reason::Documentation),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Reason::SegmentRouting),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Reason::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Reason::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Reason::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Reason::Multicast),
    (Ipv6Addr::UNSPECIFIED, 0, Reason::Unallotted),
];

/// The only IPv6 addresses that IANA gave to public hosts (RFC 4291 §2.4).
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn v4(ip: Ipv4Addr) -> Option<Reason> {
    let inside = |first: Ipv4Addr, prefix: u32| (ip.to_bits() ^ first.to_bits()).leading_zeros() >= prefix;
    V4.iter().find(|(first, prefix, _)| inside(*first, *prefix)).map(|(_, _, reason)| *reason)
}

fn v6(ip: Ipv6Addr) -> Option<Reason> {
    let inside = |first: Ipv6Addr, prefix: u32| (ip.to_bits() ^ first.to_bits()).leading_zeros() >= prefix;
    let public = inside(GLOBAL_UNICAST.0, GLOBAL_UNICAST.1);
    V6.iter()
        .filter(|(_, prefix, _)| *prefix > 0 || !public)
        .find(|(first, prefix, _)| inside(*first, *prefix))
        .map(|(_, _, reason)| *reason)
        .or_else(|| isatap(ip).then_some(Reason::Isatap))
}

/// The two bits of RFC 5214 §6.1 which may differ in the first half of the identifier are "universal" and "group".
fn isatap(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    segments[4] & !0x0300 == 0 && segments[5] == 0x5efe
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
