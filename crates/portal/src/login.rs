//! Logging in: the password, and the second factor.

use hookyard_domain::person::Locale;
use maud::{Markup, html};

use crate::frame;

texts! {
    /// Of logging in.
    struct Texts {
        title: "Log in", "Connexion";
        email: "E-mail address", "Adresse e-mail";
        password: "Password", "Mot de passe";
        submit: "Log in", "Se connecter";
        second_title: "Second factor", "Second facteur";
        second: "Enter the 6 digits that your authenticator shows, or one of your recovery codes.", "Saisissez les 6 chiffres affichés par votre application d’authentification, ou l’un de vos codes de secours.";
        code: "Code", "Code";
        again: "Begin again", "Recommencer";
        wrong: "The e-mail address or the password is wrong.", "L’adresse e-mail ou le mot de passe est incorrect.";
        wrong_code: "This code is wrong, or was used already.", "Ce code est incorrect ou a déjà été utilisé.";
        with: "Log in with ", "Se connecter avec ";
        or: "or", "ou";
        late: "That took too long. Log in again.", "Le délai est dépassé. Connectez-vous de nouveau.";
        throttled: "Too many tries went wrong. Wait a quarter of an hour or longer, then try again.", "Trop de tentatives ont échoué. Attendez un quart d’heure ou plus, puis réessayez.";
    }
}

/// Why somebody is not in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// E-mail address or password. Never which of them.
    Wrong,
    /// The code.
    WrongCode,
    /// The steps took too long.
    Late,
    /// There is a pause.
    Throttled,
}

impl Texts {
    const fn trouble(&self, trouble: Trouble) -> &'static str {
        match trouble {
            Trouble::Wrong => self.wrong,
            Trouble::WrongCode => self.wrong_code,
            Trouble::Late => self.late,
            Trouble::Throttled => self.throttled,
        }
    }
}

/// What the page needs to know.
#[derive(Clone, Copy, Debug)]
pub struct LogIn<'a> {
    /// Language.
    pub locale: Locale,
    /// Token of its form.
    pub csrf: &'a str,
    /// Where to go afterwards.
    pub return_to: &'a str,
    /// The same as an encoded query string.
    pub query: &'a str,
    /// What was typed before.
    pub email: &'a str,
    /// What went wrong before.
    pub trouble: Option<Trouble>,
    /// What people know the identity provider as, if they may log in with it.
    pub provider: Option<&'a str>,
}

/// The way to the identity provider, for pages on which there is another way. `query` says where to go afterwards, encoded.
pub(crate) fn with_provider(locale: Locale, provider: Option<&str>, query: &str) -> Markup {
    let texts = Texts::of(locale);
    let separator = if query.is_empty() { "" } else { "?" };
    html! {
        @if let Some(provider) = provider {
            p.or { (texts.or) }
            a.button.wide href={ "/login/oidc" (separator) (query) } { (texts.with) (provider) }
        }
    }
}

/// The page with the password.
#[must_use]
pub fn log_in(with: &LogIn<'_>) -> Markup {
    let texts = Texts::of(with.locale);
    let body = html! {
        (frame::notice(with.trouble.map(|trouble| texts.trouble(trouble))))
        form method="post" action="/login" {
            (frame::csrf_field(with.csrf))
            input type="hidden" name="return_to" value=(with.return_to);
            div.field {
                label for="email" { (texts.email) }
                input #email name="email" type="email" autocomplete="username" required autofocus[with.email.is_empty()] value=(with.email);
            }
            div.field {
                label for="password" { (texts.password) }
                input #password name="password" type="password" autocomplete="current-password" required autofocus[!with.email.is_empty()];
            }
            button.wide { (texts.submit) }
        }
        (with_provider(with.locale, with.provider, with.query))
    };
    frame::page_at(with.locale, texts.title, with.query, &body)
}

/// The page with the second factor.
#[must_use]
pub fn second_factor(locale: Locale, csrf: &str, return_to: &str, trouble: Option<Trouble>) -> Markup {
    let texts = Texts::of(locale);
    let body = html! {
        (frame::notice(trouble.map(|trouble| texts.trouble(trouble))))
        form method="post" action="/login/totp" {
            (frame::csrf_field(csrf))
            input type="hidden" name="return_to" value=(return_to);
            p #hint { (texts.second) }
            div.field {
                label for="code" { (texts.code) }
                input #code name="code" type="text" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" maxlength="40" required autofocus aria-describedby="hint";
            }
            div.row {
                button { (texts.submit) }
                a href="/login" { (texts.again) }
            }
        }
    };
    frame::page(locale, texts.second_title, &body)
}
