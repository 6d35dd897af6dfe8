//! Webhooks of tasks: which URLs they may have, and which events go there.

use url::{Host, Url};

use super::step::Telling;
use crate::{
    subscription::{UrlError, UrlRules},
    wire::Json,
};

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// The events that somebody wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(i16);

/// Every event with its bit; in the order in which a run tells them.
const EVENTS: [(&str, i16); 6] = [
    ("task_started", 1),
    ("task_progress", 2),
    ("task_completed", 4),
    ("task_failed", 8),
    ("task_needs_input", 16),
    ("task_cancelled", 32),
];

impl Events {
    /// All but progress: what is told when nothing was chosen.
    pub const USUAL: Self = Self(1 | 4 | 8 | 16 | 32);
    /// How a run ends: all that a callback of Zapier is told, because the Zap goes on at the first request, whatever it says.
    pub const TERMINAL: Self = Self(4 | 8 | 32);

    /// Reads a list of names. Also with a dot, as the catalogue writes them.
    ///
    /// # Errors
    /// What is wrong, continuing the name of the field.
    pub fn parse(value: &Json) -> Result<Self, String> {
        let told = || format!("must be a list of {}", EVENTS.map(|(name, _)| name).join(", "));
        let names = value.as_array().filter(|names| !names.is_empty()).ok_or_else(told)?;
        let mut bits = 0;
        for name in names {
            let name = name.as_str().unwrap_or_default().replacen("task.", "task_", 1);
            bits |= EVENTS.iter().find(|(known, _)| *known == name).ok_or_else(told)?.1;
        }
        Ok(Self(bits))
    }

    /// Whether this is among them.
    #[must_use]
    pub fn has(self, telling: &Telling) -> bool {
        let bit = match telling {
            Telling::Started => 1,
            Telling::Progress => 2,
            Telling::Completed => 4,
            Telling::Failed => 8,
            Telling::NeedsInput { .. } => 16,
            Telling::Cancelled => 32,
        };
        self.0 & bit != 0
    }

    /// The names of all there are.
    #[must_use]
    pub fn every() -> [&'static str; 6] {
        EVENTS.map(|(name, _)| name)
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        EVENTS.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(name, _)| *name).collect()
    }

    pub(crate) const fn bits(self) -> i16 {
        self.0
    }

    pub(crate) const fn of_bits(bits: i16) -> Self {
        Self(bits)
    }
}

/// A URL that a task may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl {
    /// The URL.
    pub url: Url,
    /// Whether it resumes a Zap that waits.
    pub is_callback: bool,
}

/// The rules: https and any public host; besides, what the operator opened for hooks.
#[derive(Clone, Debug, Default)]
pub struct WebhookUrls {
    hooks: UrlRules,
}

impl WebhookUrls {
    /// With the prefixes that hooks may have, too.
    #[must_use]
    pub fn new(hooks: UrlRules) -> Self {
        Self { hooks }
    }

    /// Checks a URL. Where its name leads is asked when something is sent.
    ///
    /// # Errors
    /// What is wrong, continuing the name of the field.
    pub fn check(&self, text: &str) -> Result<WebhookUrl, String> {
        match self.hooks.check(text) {
            Ok(hook) => {
                let url = hook.url().clone();
                return Ok(WebhookUrl { is_callback: is_callback(&url), url });
            }
            // These are Zapier's rules; a task may have any host.
            Err(UrlError::Host | UrlError::Path | UrlError::Port) => {}
            Err(error) => return Err(error.to_string()),
        }
        let url = Url::parse(text).map_err(|_| UrlError::Syntax.to_string())?;
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong.to_string());
        }
        if url.scheme() != "https" {
            return Err(UrlError::Scheme.to_string());
        }
        match url.host() {
            Some(Host::Domain(name)) if name.contains('.') && !name.ends_with(".localhost") => {
                Ok(WebhookUrl { is_callback: is_callback(&url), url })
            }
            // Addresses are vetted like all others when something is sent; those that are refused for sure, here.
            Some(Host::Ipv4(address))
                if !address.is_private() && !address.is_loopback() && !address.is_unspecified() =>
            {
                Ok(WebhookUrl { is_callback: false, url })
            }
            Some(Host::Ipv6(address)) if !address.is_loopback() && !address.is_unspecified() => {
                Ok(WebhookUrl { is_callback: false, url })
            }
            Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | None => {
                Err("must be on a public host".to_owned())
            }
        }
    }
}

/// `https://zapier.com/hooks/callback/…`, which `z.generateCallbackUrl()` makes.
fn is_callback(url: &Url) -> bool {
    matches!(url.host_str(), Some("zapier.com" | "hooks.zapier.com" | "www.zapier.com"))
        && url.path().starts_with("/hooks/callback/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    #[test]
    fn any_public_https_url_will_do() {
        let urls = WebhookUrls::new(UrlRules::new(&["http://127.0.0.1:9/".to_owned()]).unwrap());
        for (text, callback) in [
            ("https://hooks.zapier.com/hooks/catch/123/abc/", Some(false)),
            ("https://example.com/in?x=1", Some(false)),
            ("https://example.com:8443/in", Some(false)),
            ("https://zapier.com/hooks/callback/1/2/3/", Some(true)),
            ("https://hooks.zapier.com/hooks/callback/1/", Some(true)),
            ("https://evilzapier.com/hooks/callback/1/", Some(false)),
            ("http://127.0.0.1:9/x", Some(false)),
            ("http://example.com/in", None),
            ("https://user@example.com/in", None),
            ("https://example.com/in#x", None),
            ("https://127.0.0.1/in", None),
            ("https://10.1.2.3/in", None),
            ("https://[::1]/in", None),
            ("https://localhost/in", None),
            ("ftp://example.com/", None),
            ("https://exa mple.com/", None),
            ("example.com", None),
            ("", None),
        ] {
            assert_eq!(urls.check(text).ok().map(|url| url.is_callback), callback, "{text}");
        }
        let long = |bytes: usize| {
            let head = "https://example.com/";
            urls.check(&format!("{head}{}", "a".repeat(bytes - head.len()))).is_ok()
        };
        assert!(long(2048) && !long(2049));
    }

    #[test]
    fn events_are_chosen_by_name() {
        let parsed = |text: &str| Events::parse(&parse(text.as_bytes()).unwrap());
        let chosen = parsed(r#"["task_progress","task.completed"]"#).unwrap();
        assert_eq!(chosen.names(), ["task_progress", "task_completed"]);
        assert!(chosen.has(&Telling::Progress) && !chosen.has(&Telling::Started));
        assert_eq!(Events::of_bits(chosen.bits()), chosen);
        assert!(!Events::USUAL.has(&Telling::Progress) && Events::USUAL.names().len() == 5);
        assert_eq!(Events::TERMINAL.names(), ["task_completed", "task_failed", "task_cancelled"]);
        for bad in ["[]", "{}", r#""task_started""#, r#"["task_eaten"]"#, "[1]"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
