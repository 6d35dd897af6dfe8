//! The page of an error.

use hookyard_domain::person::Locale;
use maud::{Markup, html};

use crate::frame;

texts! {
    /// Of errors.
    struct Texts {
        cross_site: "This form was sent by a page of another site", "Ce formulaire a été envoyé par la page d’un autre site";
        expired_form: "This form has expired", "Ce formulaire a expiré";
        expired_form_hint: "Go back, load the page again and send the form once more. Cookies have to be switched on.", "Revenez en arrière, rechargez la page et renvoyez le formulaire. Les cookies doivent être activés.";
        not_found: "This link does not work", "Ce lien ne fonctionne pas";
        not_found_hint: "It may have been used already, have expired or have been taken back. Ask whoever sent it to you for a new one.", "Il a peut-être déjà été utilisé, a expiré ou a été retiré. Demandez-en un nouveau à la personne qui vous l’a envoyé.";
        refused: "This is not possible", "Ceci n’est pas possible";
        busy: "Hookyard cannot answer at the moment", "Hookyard ne peut pas répondre pour l’instant";
        busy_hint: "Try again in a few seconds.", "Réessayez dans quelques secondes.";
        ours: "Something went wrong on our side", "Une erreur s’est produite de notre côté";
        ours_hint: "It has been logged. Try again later.", "Elle a été enregistrée. Réessayez plus tard.";
        back: "To your account", "Vers votre compte";
    }
}

/// What went wrong, as `error_code` and status say it; a code that this page does not know is told by its status.
#[must_use]
pub fn error(locale: Locale, status: u16, code: &str) -> Markup {
    let texts = Texts::of(locale);
    let (title, hint) = match (code, status) {
        ("CSRF_TOKEN_INVALID", _) => (texts.expired_form, Some(texts.expired_form_hint)),
        ("CROSS_SITE_REQUEST", _) => (texts.cross_site, None),
        (_, 404 | 410) => (texts.not_found, Some(texts.not_found_hint)),
        (_, 503 | 429) => (texts.busy, Some(texts.busy_hint)),
        (_, 500..) => (texts.ours, Some(texts.ours_hint)),
        _ => (texts.refused, None),
    };
    frame::page(
        locale,
        title,
        &html! {
            @if let Some(hint) = hint { p { (hint) } }
            p { a href="/account" { (texts.back) } }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_told_in_both_languages() {
        for (status, code) in
            [(403, "CSRF_TOKEN_INVALID"), (404, "NOT_FOUND"), (503, "UNAVAILABLE"), (500, "INTERNAL")]
        {
            let [en, fr] = [Locale::En, Locale::Fr].map(|locale| error(locale, status, code).into_string());
            assert!(en != fr && en.contains("<html lang=\"en\">") && fr.contains("<html lang=\"fr\">"));
        }
    }
}
