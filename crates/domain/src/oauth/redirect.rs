//! Where a browser may be sent with a code: which URIs a client may register, and which of them a request means.
//!
//! A request is compared byte by byte with what is registered (RFC 9700 §2.1); nothing is normalised, so nothing can be
//! smuggled through a normalisation. Only the port of a loopback URI may vary: programs on a desktop take what is free
//! (RFC 8252 §7.3).

use url::Url;

/// URIs that a client may have.
pub const MAX_URIS: usize = 10;

/// The longest URI, in bytes.
pub const MAX_LEN: usize = 2_048;

/// The hosts that are the person's own machine.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Checks a URI that a client wants to have.
///
/// # Errors
/// Says what is wrong, continuing the name of the field.
pub fn check(uri: &str, is_public: bool) -> Result<(), &'static str> {
    if uri.is_empty() || uri.len() > MAX_LEN {
        return Err("must have 1 to 2048 characters");
    }
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) || uri.contains(['\\', '"', '<', '>']) {
        return Err(
            "must be printable ASCII without spaces, quotes and backslashes; percent-encode the rest",
        );
    }
    if uri.contains('#') {
        return Err("must not have a fragment");
    }
    let parsed = Url::parse(uri).map_err(|_| "must be an absolute URI")?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("must not have a user name or password");
    }
    match parsed.scheme() {
        "https" if uri.starts_with("https://") && parsed.has_host() => Ok(()),
        "http" if split_loopback(uri).is_some() => Ok(()),
        "http" => Err("must be https, unless it is on 127.0.0.1, [::1] or localhost"),
        scheme if is_private_use(scheme) && uri.starts_with(scheme) => {
            if is_public {
                Ok(())
            } else {
                Err("must be https: a scheme of its own is for public clients, which have no secret")
            }
        }
        _ => Err(
            "must be https, http on loopback, or a scheme that is a reversed domain such as com.example.app",
        ),
    }
}

/// Whether a request with this URI means the registered one.
#[must_use]
pub fn matches(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    match (split_loopback(registered), split_loopback(asked)) {
        (Some(registered), Some(asked)) => registered == asked,
        (Some(_), None) | (None, _) => false,
    }
}

/// Whether nobody else than its client can receive what is sent there: with the other kinds any program on the person's
/// machine may have asked (RFC 8252 §8.6).
#[must_use]
pub fn is_claimed(uri: &str) -> bool {
    uri.starts_with("https://")
}

/// What a `form-action` policy has to allow for a form that is answered with a redirect there.
#[must_use]
pub fn source(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "https" | "http") => {
            url.origin().ascii_serialization()
        }
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => String::new(),
    }
}

/// The URI with these parameters and, as it came, the state.
#[must_use]
pub fn with_parameters(uri: &str, parameters: &[(&str, &str)], raw_state: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let mut query = query.finish();
    if let Some(state) = raw_state {
        query.push_str("&state=");
        query.push_str(state);
    }
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some((_, there)) if there.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{uri}{separator}{query}")
}

/// A scheme that its owner can prove: a domain, reversed (RFC 8252 §7.1).
fn is_private_use(scheme: &str) -> bool {
    scheme.contains('.') && scheme.split('.').all(|part| !part.is_empty())
}

/// Host, and what follows the authority, of an http URI on loopback.
fn split_loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = LOOPBACK.into_iter().find(|host| {
        authority.strip_prefix(host).is_some_and(|port| match port.strip_prefix(':') {
            None => port.is_empty(),
            Some(digits) => {
                digits.bytes().all(|byte| byte.is_ascii_digit())
                    && digits.parse::<u16>().is_ok_and(|port| port > 0)
            }
        })
    })?;
    Some((host, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_registered() {
        for (uri, public, good) in [
            ("https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/", false, true),
            ("https://app.example/cb?tenant=1", false, true),
            ("https://app.example", true, true),
            ("http://app.example/cb", false, false),
            ("http://127.0.0.1/cb", true, true),
            ("http://127.0.0.1:8765/cb", false, true),
            ("http://[::1]:1/cb", true, true),
            ("http://localhost/cb", true, true),
            ("http://localhost.evil.example/cb", true, false),
            ("http://127.0.0.1.evil.example/cb", true, false),
            ("http://127.0.0.1:0/cb", true, false),
            ("http://127.0.0.1:65536/cb", true, false),
            ("http://127.0.0.1@evil.example/cb", true, false),
            ("com.example.app:/cb", true, true),
            ("com.example.app:/cb", false, false),
            ("myapp:/cb", true, false),
            ("javascript:alert(1)", true, false),
            ("data:text/html,x", true, false),
            ("file:///etc/passwd", true, false),
            ("https://app.example/cb#x", false, false),
            ("https://app.example/cb#", false, false),
            ("https://me@app.example/cb", false, false),
            ("https://app.example/a b", false, false),
            ("https://app.example\\@evil.example/", false, false),
            ("https:app.example", false, false),
            ("HTTPS://app.example/", false, false),
            ("//app.example/cb", false, false),
            ("/cb", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(uri, public).is_ok(), good, "{uri} {public}: {:?}", check(uri, public));
        }
        let long = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
        assert!(check(&long(MAX_LEN), false).is_ok() && check(&long(MAX_LEN + 1), false).is_err());
    }

    #[test]
    fn a_request_means_a_registered_uri_exactly() {
        let registered = "https://app.example/cb/";
        assert!(matches(registered, registered));
        for other in [
            "https://app.example/cb",
            "https://app.example/cb//",
            "https://app.example/cb/x",
            "https://app.example/cb/../cb/",
            "https://app.example/cb/?x=1",
            "https://app.example/cb/#x",
            "https://app.example/CB/",
            "https://APP.example/cb/",
            "https://app.example:443/cb/",
            "https://app.example./cb/",
            "https://evil.example/cb/",
            "https://app.example.evil.example/cb/",
            "https://evil.app.example/cb/",
            "https://app.example@evil.example/cb/",
            "https://me@app.example/cb/",
            "https://app.example/%63b/",
            "https://app.example/cb%2F",
            "http://app.example/cb/",
            "//app.example/cb/",
            " https://app.example/cb/",
            "",
        ] {
            assert!(!matches(registered, other), "{other}");
        }
    }

    #[test]
    fn only_the_port_of_loopback_may_vary() {
        let registered = "http://127.0.0.1/cb?a=1";
        for (asked, same) in [
            ("http://127.0.0.1:51004/cb?a=1", true),
            ("http://127.0.0.1:1/cb?a=1", true),
            ("http://127.0.0.1:0/cb?a=1", false),
            ("http://127.0.0.1:65536/cb?a=1", false),
            ("http://127.0.0.1:+80/cb?a=1", false),
            ("http://127.0.0.1:/cb?a=1", false),
            ("http://127.0.0.1:80/cb?a=2", false),
            ("http://127.0.0.1:80/cb", false),
            ("http://localhost:80/cb?a=1", false),
            ("http://[::1]:80/cb?a=1", false),
            ("http://127.0.0.1:80@evil.example/cb?a=1", false),
            ("http://127.0.0.1.evil.example/cb?a=1", false),
            ("https://127.0.0.1:80/cb?a=1", false),
        ] {
            assert_eq!(matches(registered, asked), same, "{asked}");
        }
        assert!(!matches("https://app.example/cb", "https://app.example:8443/cb"));
    }

    #[test]
    fn parameters_are_added_and_the_state_stays_as_it_came() {
        for (uri, expected) in [
            ("https://a.example/cb", "https://a.example/cb?code=x%26y&state=%7e+%2B"),
            ("https://a.example/cb?t=1", "https://a.example/cb?t=1&code=x%26y&state=%7e+%2B"),
            ("https://a.example/cb?", "https://a.example/cb?code=x%26y&state=%7e+%2B"),
            ("com.example.app:/cb", "com.example.app:/cb?code=x%26y&state=%7e+%2B"),
        ] {
            assert_eq!(with_parameters(uri, &[("code", "x&y")], Some("%7e+%2B")), expected);
        }
        assert_eq!(with_parameters("https://a.example/", &[("a", "b")], None), "https://a.example/?a=b");
    }

    #[test]
    fn a_policy_names_where_forms_lead() {
        for (uri, expected) in [
            ("https://zapier.com/dashboard/x/", "https://zapier.com"),
            ("https://a.example:8443/x", "https://a.example:8443"),
            ("http://127.0.0.1:51004/cb", "http://127.0.0.1:51004"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert_eq!(source(uri), expected);
        }
        assert!(
            is_claimed("https://a.example/") && !is_claimed("http://127.0.0.1/") && !is_claimed("com.a:/")
        );
    }
}
