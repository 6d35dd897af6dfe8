//! What can be said about a URL without asking anybody: scheme, userinfo, literal addresses. Names are not resolved
//! here, the resolver judges their addresses at the moment of connecting.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use crate::address::{Guard, Reason};

/// Why a URL is refused before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither `http` nor `https`.
    #[error("only http and https are allowed")]
    Scheme,
    /// A user name or a password stands before the host.
    #[error("a user name or password in the address is not allowed")]
    Userinfo,
    /// There is no host to connect to.
    #[error("the address has no host")]
    NoHost,
    /// Not one of the services that the client was made for.
    #[error("the address is none of the configured services")]
    NoService,
    /// The host is a literal address (or `localhost`) that the guard refuses.
    #[error("the address is forbidden ({0})")]
    Address(Reason),
}

/// The host of a URL as limits per destination should count it: lower case, without the dot at the end which names
/// the same host again. An IPv6 address keeps its brackets. `None`: the URL has no host.
pub fn host_of(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.trim_end_matches('.')).filter(|host| !host.is_empty())
}

/// No client asks a resolver for a literal address, so that this is where literals are judged. `Url` has already
/// decoded their odd spellings (`0x7f.1`, `2130706433`, full-width digits).
pub(crate) fn check(guard: &Guard, url: &Url) -> Result<(), Refusal> {
    form(url)?;
    let ip = match url.host() {
        None => return Err(Refusal::NoHost),
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => literal(name.trim_end_matches('.')),
    };
    match ip.and_then(|ip| guard.verdict(ip)) {
        Some(reason) => Err(Refusal::Address(reason)),
        None => Ok(()),
    }
}

/// What holds for every URL, wherever it leads.
pub(crate) fn form(url: &Url) -> Result<(), Refusal> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Userinfo);
    }
    if host_of(url).is_none() {
        return Err(Refusal::NoHost);
    }
    Ok(())
}

/// `localhost` is loopback by definition (RFC 6761 §6.3): saying so at once is kinder than a failure at delivery. The
/// parse is a second lock behind `Url`'s own: no name that reads as an address goes to a resolver.
fn literal(name: &str) -> Option<IpAddr> {
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Refusal, check, host_of};
    use crate::address::{Guard, Reason};

    fn judge(allow: &[&str], text: &str) -> Option<Result<(), Refusal>> {
        let allow: Vec<_> = allow.iter().map(|range| range.parse().unwrap()).collect();
        Url::parse(text).ok().map(|url| check(&Guard::new(&allow), &url))
    }

    #[test]
    fn every_spelling_of_a_forbidden_address_is_refused() {
        for (text, reason) in [
            ("http://127.0.0.1/", Reason::Loopback),
            ("http://127.0.0.1:8080/x?y#z", Reason::Loopback),
            ("https://127.0.0.1.", Reason::Loopback),
            ("http://127.1", Reason::Loopback),
            ("http://127.0.1", Reason::Loopback),
            ("http://2130706433/", Reason::Loopback),
            ("http://0x7f000001/", Reason::Loopback),
            ("http://0x7f.1/", Reason::Loopback),
            ("http://0X7F.0x0.0x0.0x1/", Reason::Loopback),
            ("http://017700000001/", Reason::Loopback),
            ("http://0177.0.0.1/", Reason::Loopback),
            ("http://0177.0.0.01./", Reason::Loopback),
            ("http://%31%32%37.0.0.1/", Reason::Loopback),
            ("http://127%2e0%2e0%2e1/", Reason::Loopback),
            ("http://１２７.0.0.1/", Reason::Loopback),
            ("http://①②⑦.⓪.⓪.①/", Reason::Loopback),
            ("http://127。0。0。1/", Reason::Loopback),
            ("http://127．0．0．1/", Reason::Loopback),
            ("http://1\u{ad}27.0.0.1/", Reason::Loopback),
            ("http:127.0.0.1", Reason::Loopback),
            ("http:\\\\127.0.0.1\\x", Reason::Loopback),
            ("http:////127.0.0.1//", Reason::Loopback),
            (" \thttp://127.0\n.0.1/ ", Reason::Loopback),
            ("HTTP://127.0.0.1/", Reason::Loopback),
            ("http://localhost/", Reason::Loopback),
            ("http://LOCALHOST./", Reason::Loopback),
            ("http://a.b.localhost/", Reason::Loopback),
            ("http://ｌｏｃａｌｈｏｓｔ/", Reason::Loopback),
            ("http://0/", Reason::ThisNetwork),
            ("http://0.0.0.0/", Reason::ThisNetwork),
            ("http://00000/", Reason::ThisNetwork),
            ("http://0x/", Reason::ThisNetwork),
            ("http://169.254.169.254/latest/meta-data/", Reason::LinkLocal),
            ("http://2852039166/", Reason::LinkLocal),
            ("http://0xa9fea9fe/", Reason::LinkLocal),
            ("http://0251.0376.0251.0376/", Reason::LinkLocal),
            ("http://169.254.43518/", Reason::LinkLocal),
            ("http://100.100.100.200/", Reason::Shared),
            ("http://10.1/", Reason::Private),
            ("http://192.168.257/", Reason::Private),
            ("http://4294967295/", Reason::Reserved),
            ("http://[::1]/", Reason::Loopback),
            ("http://[0:0:0:0:0:0:0:1]:443/", Reason::Loopback),
            ("http://[0000::0001]/", Reason::Loopback),
            ("http://[::]/", Reason::ThisNetwork),
            ("http://[::ffff:127.0.0.1]/", Reason::Embedded),
            ("http://[::ffff:7f00:1]/", Reason::Embedded),
            ("http://[::127.0.0.1]/", Reason::Embedded),
            ("http://[0:0:0:0:0:ffff:a9fe:a9fe]/", Reason::Embedded),
            ("http://[64:ff9b::169.254.169.254]/", Reason::Nat64),
            ("http://[2002:7f00:1::]/", Reason::SixToFour),
            ("http://[2001:0:7f00:1::]/", Reason::Teredo),
            ("http://[fe80::1]/", Reason::LinkLocal),
            ("http://[fd00:ec2::254]/", Reason::UniqueLocal),
            ("http://[fec0::1]/", Reason::SiteLocal),
            ("http://[2a00:1450::5efe:192.168.0.1]/", Reason::Isatap),
            ("http://[ff02::1]/", Reason::Multicast),
        ] {
            assert_eq!(judge(&[], text), Some(Err(Refusal::Address(reason))), "{text}");
        }
    }

    #[test]
    fn userinfo_foreign_schemes_and_empty_hosts_are_refused() {
        for (text, refusal) in [
            ("http://user@example.com/", Refusal::Userinfo),
            ("http://user:secret@example.com/", Refusal::Userinfo),
            ("https://:secret@example.com/", Refusal::Userinfo),
            ("https://hooks.zapier.com@127.0.0.1/", Refusal::Userinfo),
            ("https://hooks.zapier.com%40evil.example@10.0.0.1/", Refusal::Userinfo),
            ("http://./", Refusal::NoHost),
            ("http://../x", Refusal::NoHost),
            ("ftp://example.com/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::Scheme),
            ("gopher://127.0.0.1:6379/_x", Refusal::Scheme),
            ("ws://example.com/", Refusal::Scheme),
            ("unix:/var/run/docker.sock", Refusal::Scheme),
            ("data:text/plain,x", Refusal::Scheme),
            ("javascript:alert(1)", Refusal::Scheme),
            ("blob:https://example.com/x", Refusal::Scheme),
        ] {
            assert_eq!(judge(&[], text), Some(Err(refusal)), "{text}");
        }
    }

    #[test]
    fn what_is_not_even_a_url_stays_outside() {
        for text in [
            "",
            "//example.com",
            "/x",
            "http://",
            "http://[fe80::1%25eth0]/",
            "http://[::1",
            "http://256.256.256.256/",
            "http://127.0.0.1.1/",
            "http://0x7f.0x7f.0x7f.0x7f.1/",
            "http://4294967296/",
            "http://example.com:65536/",
            "http://a b/",
            "http://exa%00mple.com/",
            "http://[::ffff:127.0.0.1.]/",
            "http://[v1.x]/",
            "https://%/",
        ] {
            assert_eq!(judge(&[], text), None, "{text}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for text in [
            "https://hooks.zapier.com/hooks/standard/1/abc/",
            "https://hooks.zapier.com./hooks/standard/1/abc/",
            "https://HOOKS.zapier.com:443/fake-subscription-url",
            "http://example.com:8080/a?b=c",
            "https://localhost.example.com/",
            "https://notlocalhost/",
            "https://127.0.0.1.nip.io/", // judged by its answer
            "https://bücher.example/",
            "https://xn--bcher-kva.example/",
            "https://8.8.8.8/",
            "https://134744072/", // 8.8.8.8
            "https://172.32.0.1/",
            "https://11.0.0.1/",
            "https://[2606:4700:4700::1111]/",
            "https://[2a00:1450:4001:82b::200e]:8443/x",
            "https://1.1/",
        ] {
            assert_eq!(judge(&[], text), Some(Ok(())), "{text}");
        }
    }

    #[test]
    fn opened_ranges_open_literals_and_localhost() {
        assert_eq!(judge(&["127.0.0.0/8"], "http://127.0.0.1:9/"), Some(Ok(())));
        assert_eq!(judge(&["127.0.0.0/8"], "http://localhost:9/"), Some(Ok(())));
        assert_eq!(judge(&["127.0.0.0/8"], "http://10.0.0.1/"), Some(Err(Refusal::Address(Reason::Private))));
    }

    #[test]
    fn a_host_is_counted_once_whatever_its_spelling() {
        for (text, host) in [
            ("https://HOOKS.Zapier.com/x", Some("hooks.zapier.com")),
            ("https://hooks.zapier.com./x", Some("hooks.zapier.com")),
            ("https://[2606:4700::1]/", Some("[2606:4700::1]")),
            ("mailto:a@b", None),
        ] {
            assert_eq!(host_of(&Url::parse(text).unwrap()), host, "{text}");
        }
    }
}
