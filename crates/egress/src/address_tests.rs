//! Every range of the table at its edges: the first and the last address in, both neighbours judged on their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Guard, Reason, V4, V6, verdict};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_v4_range_holds_its_first_and_last_address() {
    for (first, prefix, reason) in V4 {
        let last = Ipv4Addr::from_bits(first.to_bits() | (u32::MAX >> prefix));
        let middle = Ipv4Addr::from_bits(first.to_bits() | ((u32::MAX >> prefix) / 3));
        for address in [first, middle, last] {
            assert_eq!(verdict(address.into()), Some(reason), "{address} in {first}/{prefix}");
        }
    }
}

#[test]
fn every_v6_range_holds_its_first_and_last_address() {
    for (first, prefix, reason) in V6.into_iter().filter(|(_, prefix, _)| *prefix > 0) {
        let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
        let last = Ipv6Addr::from_bits(first.to_bits() | rest);
        // `::/8` and `2001::/23` begin with a narrower range, which has its own reason.
        for address in [first, last] {
            let found = verdict(address.into());
            let narrower = [Reason::ThisNetwork, Reason::Teredo].map(Some).contains(&found);
            assert!(found == Some(reason) || (address == first && narrower), "{address}: {found:?}");
        }
    }
}

#[test]
fn the_neighbours_of_the_v4_ranges_are_public() {
    for text in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.1.255",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
    ] {
        assert_eq!(verdict(ip(text)), None, "{text}");
    }
}

#[test]
fn public_addresses_are_public() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.9.9.9",
        "34.117.59.81",
        "52.4.103.54",
        "93.184.215.14",
        "104.18.26.120",
        "140.82.121.4",
        "151.101.1.140",
        "185.199.108.153",
        "192.88.99.1",
        "198.252.206.1",
        "216.58.206.78",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2400:cb00:2048:1::6810:1a78",
        "2600:9000::1",
        "2606:4700:4700::1111",
        "2620:fe::fe",
        "2800:3f0::1",
        "2a00:1450:4001:82b::200e",
        "2c0f:fb50::1",
        "2001:db7:ffff::1",
        "2001:db9::",
        "2003:ffff::",
        "3ffe:ffff::1",
        "3fff:1000::",
        "2a00:1450::5efe:2",
        "2a00:1450::1234:5efe:808:808",
    ] {
        assert_eq!(verdict(ip(text)), None, "{text}");
    }
}

#[test]
fn hostile_addresses_are_refused_for_the_right_reason() {
    for (text, reason) in [
        ("0.0.0.0", Reason::ThisNetwork),
        ("0.1.2.3", Reason::ThisNetwork),
        ("10.0.0.5", Reason::Private),
        ("100.100.100.200", Reason::Shared), // Alibaba's metadata service
        ("127.0.0.1", Reason::Loopback),
        ("127.255.255.254", Reason::Loopback),
        ("169.254.169.254", Reason::LinkLocal), // the metadata service of most clouds
        ("169.254.170.2", Reason::LinkLocal),   // credentials of ECS tasks
        ("172.17.0.1", Reason::Private),
        ("172.31.255.255", Reason::Private),
        ("192.0.0.192", Reason::ProtocolAssignment), // Oracle's old metadata service
        ("192.0.2.1", Reason::Documentation),
        ("192.168.1.1", Reason::Private),
        ("198.19.255.255", Reason::Benchmarking),
        ("198.51.100.7", Reason::Documentation),
        ("203.0.113.7", Reason::Documentation),
        ("224.0.0.1", Reason::Multicast),
        ("239.255.255.255", Reason::Multicast),
        ("240.0.0.1", Reason::Reserved),
        ("255.255.255.255", Reason::Reserved),
        ("::", Reason::ThisNetwork),
        ("::1", Reason::Loopback),
        ("::2", Reason::Embedded),
        ("::127.0.0.1", Reason::Embedded),
        ("::ffff:127.0.0.1", Reason::Embedded),
        ("::ffff:8.8.8.8", Reason::Embedded),
        ("::ffff:0:169.254.169.254", Reason::Embedded), // SIIT, RFC 2765
        ("ff:ffff::1", Reason::Embedded),
        ("64:ff9b::a9fe:a9fe", Reason::Nat64),
        ("64:ff9b::8.8.8.8", Reason::Nat64),
        ("64:ff9b:1::1", Reason::Nat64),
        ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Reason::Nat64),
        ("100::1", Reason::Discard),
        ("2001::1", Reason::Teredo),
        ("2001:0:7f00:1::", Reason::Teredo),
        ("2001:2::1", Reason::ProtocolAssignment),
        ("2001:10::1", Reason::ProtocolAssignment),
        ("2001:20::1", Reason::ProtocolAssignment),
        ("2001:1ff:ffff::1", Reason::ProtocolAssignment),
        ("2001:db8::1", Reason::Documentation),
        ("2002:7f00:1::1", Reason::SixToFour),
        ("2002:a9fe:a9fe::", Reason::SixToFour),
        ("3fff:fff:ffff::1", Reason::Documentation),
        ("5f00::1", Reason::SegmentRouting),
        ("fc00::1", Reason::UniqueLocal),
        ("fd00:ec2::254", Reason::UniqueLocal), // the metadata service of AWS over IPv6
        ("fd20:ce::254", Reason::UniqueLocal),  // and of Google
        ("fdff:ffff::1", Reason::UniqueLocal),
        ("fe80::1", Reason::LinkLocal),
        ("febf:ffff::1", Reason::LinkLocal),
        ("fec0::1", Reason::SiteLocal),
        ("feff:ffff::1", Reason::SiteLocal),
        ("ff02::1", Reason::Multicast),
        ("ff05::1:3", Reason::Multicast),
        ("2a00:1450::5efe:10.0.0.1", Reason::Isatap),
        ("2a00:1450::200:5efe:10.0.0.1", Reason::Isatap),
        ("2a00:1450::100:5efe:127.0.0.1", Reason::Isatap),
        ("2a00:1450::300:5efe:8.8.8.8", Reason::Isatap),
        ("100:0:0:1::", Reason::Unallotted),
        ("1fff:ffff::", Reason::Unallotted),
        ("4000::1", Reason::Unallotted),
        ("5eff::1", Reason::Unallotted),
        ("fe00::1", Reason::Unallotted),
    ] {
        assert_eq!(verdict(ip(text)), Some(reason), "{text}");
    }
}

#[test]
fn no_v4_address_is_public_through_any_embedding() {
    // Whatever IPv4 address is wrapped, the wrapping is refused: an address drawn by a plain generator will do.
    let mut bits: u32 = 0x9e37_79b9;
    for _ in 0..2_000 {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wrapped = u128::from(bits);
        for address in [
            wrapped,                                                // compatible
            0xffff_0000_0000 | wrapped,                             // mapped
            0x0064_ff9b << 96 | wrapped,                            // NAT64
            0x2002 << 112 | wrapped << 80 | 1,                      // 6to4
            0x2001 << 112 | wrapped << 64 | !wrapped & 0xffff_ffff, // Teredo
            0x2a00_1450 << 96 | 0x5efe_0000_0000 | wrapped,         // ISATAP
            0x2a00_1450 << 96 | 0x0200_5efe << 32 | wrapped,
        ] {
            let address = Ipv6Addr::from_bits(address);
            assert!(verdict(address.into()).is_some(), "{address}");
        }
    }
}

#[test]
fn an_opened_range_opens_exactly_what_it_spells() {
    let guard = Guard::new(&["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    for text in ["127.0.0.1", "127.9.9.9", "fd00::1", "8.8.8.8"] {
        assert_eq!(guard.verdict(ip(text)), None, "{text}");
    }
    for text in ["10.0.0.1", "::1", "::ffff:127.0.0.1", "fc00::1", "169.254.169.254"] {
        assert!(guard.verdict(ip(text)).is_some(), "{text}");
    }
}
