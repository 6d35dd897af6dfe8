//! Who is at the other end, as an address: the peer of the connection, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use actix_web::{HttpRequest, http::header::HeaderMap};
use ipnet::IpNet;
use ring::digest::{SHA256, digest};
use uuid::Uuid;

/// Addresses of a forwarding header that are looked at, from its end.
const MAX_HOPS: usize = 32;

/// The client's address. Forwarding headers count only when the connection comes from a trusted proxy, and then from
/// their end up to the first address that is no trusted proxy: what stands before it was written by anybody.
pub(crate) fn of(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return Some(peer);
    }
    Some(forwarded(request.headers(), peer, trusted))
}

/// Whose requests without a credential are counted together: an IPv4 address, or an IPv6 /64, which is what one
/// subscriber has.
pub(crate) fn subject(peer: Option<IpAddr>) -> Uuid {
    let bytes = match peer {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
        None => Vec::new(),
    };
    let hash = digest(&SHA256, &bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    Uuid::from_bytes(id)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

fn forwarded(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let lines =
        |name| headers.get_all(name).filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let simple = lines("x-forwarded-for");
    let hops: Vec<Option<IpAddr>> = if simple.is_empty() {
        // RFC 7239 §4: `for=192.0.2.60;proto=http, for="[2001:db8::1]:4711"`.
        let standard = lines("forwarded");
        let elements = standard.rsplit(',').take(MAX_HOPS).filter(|element| !element.trim().is_empty());
        elements.map(|element| element.split(';').find_map(for_parameter).and_then(address)).collect()
    } else {
        simple.rsplit(',').take(MAX_HOPS).map(address).collect()
    };
    let mut client = peer;
    for hop in hops {
        // A hop that cannot be read ends the chain: what stands before it cannot be trusted either.
        let Some(hop) = hop else { break };
        client = hop;
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    client
}

fn for_parameter(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then_some(value)
}

/// An address, with or without port, brackets and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut request = TestRequest::default().peer_addr(SocketAddr::new(peer.parse().unwrap(), 5));
        for header in headers {
            request = request.append_header(*header);
        }
        super::of(&request.to_http_request(), &trusted).unwrap().to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, headers, expected) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &[("x-forwarded-for", "203.0.113.9")], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.2.3.4")], "203.0.113.9"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")],
                "203.0.113.9",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, nonsense, 10.2.3.4")], "10.2.3.4"),
            ("10.0.0.1", &[("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9"),
            (
                "fd00::1",
                &[("forwarded", "for=1.1.1.1, For=\"[2001:db8::1]:4711\";proto=http")],
                "2001:db8::1",
            ),
            ("10.0.0.1", &[("forwarded", "proto=https;for=203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[("forwarded", "for=unknown")], "10.0.0.1"),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "::ffff:203.0.113.9")], "203.0.113.9"),
        ] {
            assert_eq!(of(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_subject() {
        let subject = |text: &str| subject(Some(text.parse().unwrap()));
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff::"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
    }
}
