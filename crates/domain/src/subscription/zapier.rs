//! What a subscription that Zapier has made is called (contract §4): its owner finds it among the others by the Zap's event type.

use url::Url;

use super::url_rule;

/// Types that are named.
const NAMED: usize = 3;

/// The description of a subscription whose deliveries go to Zapier, for these event types or patterns; without any it is for all. `None` when
/// its deliveries go elsewhere.
#[must_use]
pub fn description(url: &str, types: &[&str]) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url_rule::zapier(&url).ok()?;
    let named = types.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    Some(match types {
        [] | ["*"] => "Zapier: every event".to_owned(),
        _ if types.len() <= NAMED => format!("Zapier: {named}"),
        _ => format!("Zapier: {named} and {} more", types.len() - NAMED),
    })
}

#[cfg(test)]
mod tests {
    use super::description;

    #[test]
    fn what_goes_to_zapier_is_called_by_its_types() {
        let zap = "https://hooks.zapier.com/hooks/standard/1/2/";
        for (url, types, told) in [
            (zap, vec!["order.created"], Some("Zapier: order.created")),
            ("https://zapier.com/hooks/standard/1/2/", vec!["*"], Some("Zapier: every event")),
            (zap, vec![], Some("Zapier: every event")),
            (zap, vec!["a", "b", "c"], Some("Zapier: a, b, c")),
            (zap, vec!["a", "b", "c", "d"], Some("Zapier: a, b, c and 1 more")),
            ("https://example.com/hooks/", vec!["order.created"], None),
            ("https://zapier.com.example/hooks/", vec!["order.created"], None),
            ("no URL", vec!["order.created"], None),
        ] {
            assert_eq!(description(url, &types).as_deref(), told, "{url} {types:?}");
        }
    }
}
