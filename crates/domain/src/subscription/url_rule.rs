//! Which URLs a REST hook may have (contract §3).
//!
//! Zapier's, and those under prefixes that the operator adds for development. Where a name leads is not asked here: that
//! is the guard's business, every time something is sent.

use url::{Host, Url};

/// The longest URL, in bytes.
pub(crate) const MAX_URL_BYTES: usize = 2048;

/// A URL that a hook may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl {
    text: String,
    url: Url,
}

impl HookUrl {
    /// The URL as the subscriber wrote it: what a hook is found by.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL as it will be requested.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Why a URL is not acceptable. Texts continue "the URL".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Over 2,048 bytes.
    #[error("must have at most {MAX_URL_BYTES} characters")]
    TooLong,
    /// Characters that a URL does not have, which parsers drop or mend silently.
    #[error("must not contain spaces, control characters, backslashes or non-ASCII characters")]
    Characters,
    /// Not a URL.
    #[error("is not a valid absolute URL")]
    Syntax,
    /// Not https.
    #[error("must begin with https://")]
    Scheme,
    /// A name or password before the host.
    #[error("must not contain a user name or password")]
    Userinfo,
    /// Something after `#`.
    #[error("must not contain a fragment (#…)")]
    Fragment,
    /// A port other than 443.
    #[error("must not name a port other than 443")]
    Port,
    /// Not Zapier.
    #[error("must be on hooks.zapier.com")]
    Host,
    /// On zapier.com, but not a hook.
    #[error("must have a path under /hooks/ when it is on zapier.com")]
    Path,
}

/// A prefix in the settings that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an http or https URL without user, query and fragment")]
pub struct PrefixError(String);

/// The rules of an installation.
#[derive(Clone, Debug, Default)]
pub struct UrlRules {
    extra: Vec<Url>,
}

impl UrlRules {
    /// Zapier's rules, and these prefixes besides.
    ///
    /// # Errors
    /// Names the first prefix that is not acceptable.
    pub fn new(extra_prefixes: &[String]) -> Result<Self, PrefixError> {
        let parse = |text: &String| {
            let wrong = || PrefixError(text.chars().take(200).collect());
            let url = Url::parse(text).map_err(|_| wrong())?;
            let plain = matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && !has_userinfo(&url, text)
                && url.query().is_none()
                && url.fragment().is_none()
                && plain_characters(text)
                && is_written_out(&url, text);
            if plain { Ok(url) } else { Err(wrong()) }
        };
        Ok(Self { extra: extra_prefixes.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Checks a URL.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, text: &str) -> Result<HookUrl, UrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        if !plain_characters(text) {
            return Err(UrlError::Characters);
        }
        let url = Url::parse(text).map_err(|_| UrlError::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if has_userinfo(&url, text) {
            return Err(UrlError::Userinfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        if !is_written_out(&url, text) {
            return Err(UrlError::Syntax);
        }
        if !self.extra.iter().any(|prefix| under(prefix, &url)) {
            zapier(&url)?;
        }
        Ok(HookUrl { text: text.to_owned(), url })
    }
}

/// `url` drops tabs and line ends, and takes backslashes for slashes: what it mends, somebody else reads otherwise.
fn plain_characters(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// What is written between the two slashes and the path.
fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Whether scheme, slashes, host and port are written in full and plainly. `url` finds a host in `https:host` and
/// `https:///host`, decodes `%2e` in it, and takes `:` and `:0443` for 443: whoever else reads the text may not.
fn is_written_out(url: &Url, text: &str) -> bool {
    let authority = authority(text);
    let port = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((_, port)) if !port.contains(']') => Some(port),
        Some(_) | None => None,
    };
    let plain_port =
        port.is_none_or(|port| url.port_or_known_default().map(|n| n.to_string()).as_deref() == Some(port));
    !authority.is_empty() && !authority.contains('%') && plain_port
}

/// Also an empty one (`https://@host/`), which `url` forgets.
fn has_userinfo(url: &Url, text: &str) -> bool {
    let authority = authority(text);
    !url.username().is_empty() || url.password().is_some() || authority.contains('@')
}

fn under(prefix: &Url, url: &Url) -> bool {
    prefix.scheme() == url.scheme()
        && prefix.host() == url.host()
        && prefix.port_or_known_default() == url.port_or_known_default()
        // Whole segments: `/in` does not open `/inside`.
        && url.path().strip_prefix(prefix.path()).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || prefix.path().ends_with('/')
        })
}

/// Whether a URL is one of Zapier's hooks.
///
/// # Errors
/// What keeps it from being one.
pub(super) fn zapier(url: &Url) -> Result<(), UrlError> {
    if url.scheme() != "https" {
        return Err(UrlError::Scheme);
    }
    let Some(Host::Domain(host)) = url.host() else { return Err(UrlError::Host) };
    if host != "hooks.zapier.com" && host != "zapier.com" {
        return Err(UrlError::Host);
    }
    // `url` says `None` for a scheme's own port, also when it was written.
    if url.port().is_some() {
        return Err(UrlError::Port);
    }
    if host == "zapier.com" && !url.path().starts_with("/hooks/") {
        return Err(UrlError::Path);
    }
    Ok(())
}

#[cfg(test)]
#[path = "url_rule_tests.rs"]
mod tests;
