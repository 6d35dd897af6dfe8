//! What all pages have in common: head, style, the place of the content, and the other language.

use hookyard_domain::person::Locale;
use maud::{DOCTYPE, Markup, html};

/// The style sheet, served at `/login/assets/portal.css`.
pub const STYLE: &str = include_str!("portal.css");

/// The script, served at `/login/assets/portal.js`: buttons that copy. Nothing depends on it.
pub const SCRIPT: &str = include_str!("portal.js");

/// `Content-Security-Policy` of every page: nothing but our own style, script and forms, in no frame.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

texts! {
    /// Of the frame.
    struct Texts {
        skip: "Skip to the content", "Aller au contenu";
    }
}

/// [`POLICY`] for a page whose form may be answered with a redirect to another origin, such as
/// `https://zapier.com`: browsers hold `form-action` against redirects, too.
#[must_use]
pub fn policy_with_forms_to(origin: &str) -> String {
    POLICY.replace("form-action 'self'", &format!("form-action 'self' {origin}"))
}

/// A whole page. `body` goes into the card in its middle, which begins with the title.
#[must_use]
pub fn page(locale: Locale, title: &str, body: &Markup) -> Markup {
    page_at(locale, title, "", body)
}

/// The same for a page that needs its query string, encoded and without `lang`, in the other language, too.
#[must_use]
pub fn page_at(locale: Locale, title: &str, query: &str, body: &Markup) -> Markup {
    let texts = Texts::of(locale);
    html! {
        (DOCTYPE)
        html lang=(locale.as_str()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · Hookyard" }
                link rel="stylesheet" href="/login/assets/portal.css";
                script src="/login/assets/portal.js" defer {}
            }
            body {
                a.skip href="#content" { (texts.skip) }
                header { span.mark aria-hidden="true" {} "Hookyard" }
                main id="content" {
                    h1 { (title) }
                    (body)
                }
                footer { nav { (languages(locale, query)) } }
            }
        }
    }
}

/// The hidden field that every form has; the gateway makes the token.
#[must_use]
pub fn csrf_field(token: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(token); }
}

/// What went wrong with a form, told to those who see and to those who listen. Nothing when nothing did.
#[must_use]
pub fn notice(error: Option<&str>) -> Markup {
    html! {
        div.error role="alert" aria-live="assertive" hidden[error.is_none()] { (error.unwrap_or_default()) }
    }
}

/// Every language under its own name.
fn languages(current: Locale, query: &str) -> Markup {
    let separator = if query.is_empty() { "" } else { "&" };
    html! {
        @for (locale, name) in [(Locale::En, "English"), (Locale::Fr, "Français")] {
            @if locale == current {
                span aria-current="true" lang=(locale.as_str()) { (name) }
            } @else {
                a href={ "?" (query) (separator) "lang=" (locale.as_str()) } lang=(locale.as_str()) hreflang=(locale.as_str()) { (name) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_its_language_and_what_comes_from_people_is_escaped() {
        for locale in [Locale::En, Locale::Fr] {
            let text = page(locale, "<b>Acme</b>", &notice(Some("\"><script>"))).into_string();
            assert!(text.starts_with("<!DOCTYPE html>"), "{text}");
            assert!(text.contains(&format!("<html lang=\"{}\">", locale.as_str())), "{text}");
            assert!(!text.contains("<b>") && !text.contains("\"><script>"), "{text}");
        }
        assert!(csrf_field("\"x").into_string().contains("&quot;x"));
    }

    #[test]
    fn a_form_may_lead_to_one_origin_more() {
        let policy = policy_with_forms_to("https://zapier.com");
        assert!(policy.contains("form-action 'self' https://zapier.com;"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}
