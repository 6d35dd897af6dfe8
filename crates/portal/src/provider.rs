//! Logging in with the identity provider, when it came to nothing.

use hookyard_domain::person::Locale;
use maud::{Markup, html};

use crate::frame;

texts! {
    /// Of log-ins that came to nothing.
    struct Texts {
        title: "You are not logged in", "Vous n’êtes pas connecté";
        late: "That took too long, was begun in another browser, or was finished already. Cookies have to be switched on.", "Le délai est dépassé, la connexion a été commencée dans un autre navigateur ou est déjà terminée. Les cookies doivent être activés.";
        denied: "The identity provider did not let you in.", "Le fournisseur d’identité ne vous a pas laissé entrer.";
        failed: "The identity provider cannot be used at the moment. It has been logged. Try again later.", "Le fournisseur d’identité est indisponible pour l’instant. L’erreur a été enregistrée. Réessayez plus tard.";
        unverified: "The identity provider has not verified your e-mail address.", "Le fournisseur d’identité n’a pas vérifié votre adresse e-mail.";
        no_account: "There is no account for you here. Ask an administrator to invite you.", "Il n’y a pas de compte pour vous ici. Demandez à un administrateur de vous inviter.";
        domain: "E-mail addresses of your domain are not let in here.", "Les adresses e-mail de votre domaine ne sont pas admises ici.";
        other_address: "The invitation is for another e-mail address than yours.", "L’invitation est destinée à une autre adresse e-mail que la vôtre.";
        again: "Begin again", "Recommencer";
    }
}

/// Why somebody is not in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It took too long, was begun elsewhere, or was used already.
    Late,
    /// The provider says no.
    Denied,
    /// The provider, or what it said, is of no use.
    Failed,
    /// It has not verified the e-mail address.
    Unverified,
    /// There is no account, or a disabled one.
    NoAccount,
    /// The domain of the e-mail address is not let in.
    Domain,
    /// The invitation is for another e-mail address.
    OtherAddress,
}

/// The page that says so, with a way back.
#[must_use]
pub fn not_in(locale: Locale, trouble: Trouble) -> Markup {
    let texts = Texts::of(locale);
    let reason = match trouble {
        Trouble::Late => texts.late,
        Trouble::Denied => texts.denied,
        Trouble::Failed => texts.failed,
        Trouble::Unverified => texts.unverified,
        Trouble::NoAccount => texts.no_account,
        Trouble::Domain => texts.domain,
        Trouble::OtherAddress => texts.other_address,
    };
    let body = html! {
        (frame::notice(Some(reason)))
        a.button.wide href="/login" { (texts.again) }
    };
    frame::page(locale, texts.title, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_in_both_languages_with_a_way_back() {
        let all = [
            Trouble::Late,
            Trouble::Denied,
            Trouble::Failed,
            Trouble::Unverified,
            Trouble::NoAccount,
            Trouble::Domain,
            Trouble::OtherAddress,
        ];
        for trouble in all {
            let [en, fr] = [Locale::En, Locale::Fr].map(|locale| not_in(locale, trouble).into_string());
            assert!(en != fr && en.contains("href=\"/login\"") && fr.contains("href=\"/login\""), "{en}");
        }
    }
}
