//! Parameters of OAuth requests, in a query or a form: each at most once, an empty one as if it were not there, unknown ones
//! ignored (RFC 6749 §3.1, §3.2).

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(text);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// A parameter that is given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// The first of these names that is given more than once.
    pub(super) fn twice<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.0.iter().filter(|(given, _)| given == name).nth(1).is_some())
    }
}

/// A parameter of a query exactly as it was sent, percent-encoding and all.
pub(super) fn raw<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_there_once_or_not_at_all() {
        let parameters = Parameters::parse(b"a=1&b=&c=x%20y+z&a=2&d=1&d=1");
        assert_eq!(
            (parameters.get("a"), parameters.get("b"), parameters.get("c")),
            (Some("1"), None, Some("x y z"))
        );
        assert_eq!(parameters.twice(&["b", "c"]), None);
        assert_eq!(parameters.twice(&["b", "d", "a"]), Some("d"));
    }

    #[test]
    fn a_raw_parameter_is_untouched() {
        let query = "xstate=0&state=%7e+%2B%00;=&a=1";
        assert_eq!(raw(query, "state"), Some("%7e+%2B%00;="));
        assert_eq!(raw(query, "b"), None);
    }
}
