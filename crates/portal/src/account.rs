//! A person's own account: the tenant and its Client ID, sessions, password, second factor.

use hookyard_domain::person::{Locale, Role, password::Weakness};
use maud::{Markup, html};

use crate::{
    frame,
    join::{role, weakness},
};

texts! {
    /// Of the account.
    struct Texts {
        title: "You are logged in", "Vous êtes connecté";
        person: "Person", "Personne";
        tenant: "Tenant", "Espace";
        role: "Role", "Rôle";
        client_id: "Client ID", "Client ID";
        client_id_hint: "Zapier asks for it when you connect with a key.", "Zapier le demande lorsque vous vous connectez avec une clé.";
        copy: "Copy", "Copier";
        copied: "Copied", "Copié";
        log_out: "Log out", "Se déconnecter";
        switch: "Switch", "Changer";
        switch_to: "Other tenants", "Autres espaces";
        language: "Language", "Langue";
        save: "Save", "Enregistrer";
        sessions: "Where you are logged in", "Où vous êtes connecté";
        this_one: "this one", "celle-ci";
        last_seen: "last seen", "vu pour la dernière fois";
        unknown: "unknown browser", "navigateur inconnu";
        everywhere: "Log out everywhere", "Se déconnecter partout";
        password: "Password", "Mot de passe";
        current: "Current password", "Mot de passe actuel";
        new: "New password", "Nouveau mot de passe";
        new_hint: "12 to 128 characters. All other sessions end.", "De 12 à 128 caractères. Toutes les autres sessions prennent fin.";
        change: "Change password", "Changer le mot de passe";
        no_password: "You log in with another provider.", "Vous vous connectez avec un autre fournisseur.";
        second: "Second factor", "Second facteur";
        second_on: "Turned on: logging in needs a code of your authenticator.", "Activé : la connexion demande un code de votre application d’authentification.";
        second_off: "Turned off. With it, a stolen password alone is worth nothing.", "Désactivé. Avec lui, un mot de passe volé ne suffit pas.";
        turn_on: "Turn on", "Activer";
        turn_off: "Turn off", "Désactiver";
        scan: "Open this link on your phone, or type the key into your authenticator:", "Ouvrez ce lien sur votre téléphone, ou saisissez la clé dans votre application d’authentification :";
        open: "Open in the authenticator", "Ouvrir dans l’application";
        key: "Key", "Clé";
        then: "Then enter the 6 digits that it shows:", "Saisissez ensuite les 6 chiffres affichés :";
        confirm: "Confirm", "Confirmer";
        cancel: "Cancel", "Annuler";
        recovery_title: "Your recovery codes", "Vos codes de secours";
        recovery: "Each of them lets you in once, when the authenticator is lost. Keep them where you keep your passport: they are shown this once.", "Chacun vous permet d’entrer une fois si l’application est perdue. Conservez-les comme votre passeport : ils ne sont affichés qu’une fois.";
        done: "I have kept them", "Je les ai conservés";
        wrong_password: "The current password is wrong.", "Le mot de passe actuel est incorrect.";
        wrong_code: "This code is wrong. Look whether the clock of your phone is right.", "Ce code est incorrect. Vérifiez l’heure de votre téléphone.";
        throttled: "Too many tries went wrong. Wait a quarter of an hour or longer, then try again.", "Trop de tentatives ont échoué. Attendez un quart d’heure ou plus, puis réessayez.";
        changed: "The password is changed, and all other sessions have ended.", "Le mot de passe est changé et toutes les autres sessions ont pris fin.";
    }
}

/// What is told above the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The current password is wrong.
    WrongPassword,
    /// The new password is not good enough.
    Weak(Weakness),
    /// There is a pause.
    Throttled,
    /// The password is changed.
    PasswordChanged,
}

/// A session in the list.
#[derive(Clone, Debug)]
pub struct SessionLine {
    /// The browser, as it calls itself.
    pub user_agent: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// When it was last seen.
    pub last_seen: String,
    /// Whether it is the one that looks.
    pub is_own: bool,
}

/// What the page needs to know.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// Language.
    pub locale: Locale,
    /// Token of its forms.
    pub csrf: &'a str,
    /// E-mail address.
    pub email: &'a str,
    /// Name.
    pub name: &'a str,
    /// The tenant's name.
    pub tenant: &'a str,
    /// The tenant's Client ID.
    pub client_id: String,
    /// The role there.
    pub role: Role,
    /// Ids and names of the person's other tenants.
    pub others: Vec<(String, String)>,
    /// The sessions.
    pub sessions: Vec<SessionLine>,
    /// Whether the person has a password.
    pub has_password: bool,
    /// Whether the person has a second factor.
    pub has_totp: bool,
    /// What is told above.
    pub notice: Option<Notice>,
}

/// The page of the account.
#[must_use]
pub fn account(with: &Account<'_>) -> Markup {
    let texts = Texts::of(with.locale);
    let body = html! {
        (notice(with, texts))
        dl {
            dt { (texts.person) } dd { (with.name) " (" (with.email) ")" }
            dt { (texts.tenant) } dd { (with.tenant) }
            dt { (texts.role) } dd { (role(with.locale, with.role)) }
            dt { (texts.client_id) }
            dd {
                code #client-id { (with.client_id) } " "
                button.quiet type="button" hidden data-copy="client-id" data-copied=(texts.copied) { (texts.copy) }
                p.hint { (texts.client_id_hint) }
            }
        }
        form method="post" action="/logout" { (frame::csrf_field(with.csrf)) button { (texts.log_out) } }
        (tenants(with, texts))
        (sessions(with, texts))
        (password(with, texts))
        (second_factor(with, texts))
        h2 { (texts.language) }
        form method="post" action="/account/language" {
            (frame::csrf_field(with.csrf))
            div.row {
                select.grow name="locale" aria-label=(texts.language) {
                    @for (locale, name) in [(Locale::En, "English"), (Locale::Fr, "Français")] {
                        option value=(locale.as_str()) lang=(locale.as_str()) selected[locale == with.locale] { (name) }
                    }
                }
                button.quiet { (texts.save) }
            }
        }
    };
    frame::page(with.locale, texts.title, &body)
}

fn notice(with: &Account<'_>, texts: &Texts) -> Markup {
    match with.notice {
        Some(Notice::PasswordChanged) => html! { div.note role="status" { (texts.changed) } },
        Some(Notice::WrongPassword) => frame::notice(Some(texts.wrong_password)),
        Some(Notice::Weak(weak)) => frame::notice(Some(weakness(with.locale, weak))),
        Some(Notice::Throttled) => frame::notice(Some(texts.throttled)),
        None => frame::notice(None),
    }
}

fn tenants(with: &Account<'_>, texts: &Texts) -> Markup {
    html! {
        @if !with.others.is_empty() {
            h2 { (texts.switch_to) }
            form method="post" action="/account/tenant" {
                (frame::csrf_field(with.csrf))
                div.row {
                    select.grow name="tenant" aria-label=(texts.switch_to) {
                        @for (id, name) in &with.others { option value=(id) { (name) } }
                    }
                    button.quiet { (texts.switch) }
                }
            }
        }
    }
}

fn sessions(with: &Account<'_>, texts: &Texts) -> Markup {
    html! {
        h2 { (texts.sessions) }
        ul.plain {
            @for session in &with.sessions {
                li {
                    (session.user_agent.as_deref().unwrap_or(texts.unknown))
                    @if session.is_own { " — " strong { (texts.this_one) } }
                    p.hint {
                        @if let Some(address) = &session.address { (address) ", " }
                        (texts.last_seen) " " (session.last_seen)
                    }
                }
            }
        }
        form method="post" action="/account/logout-everywhere" {
            (frame::csrf_field(with.csrf))
            button.quiet { (texts.everywhere) }
        }
    }
}

fn password(with: &Account<'_>, texts: &Texts) -> Markup {
    html! {
        h2 { (texts.password) }
        @if with.has_password {
            form method="post" action="/account/password" {
                (frame::csrf_field(with.csrf))
                // For managers of passwords, which want to know whose it is.
                input type="hidden" name="username" autocomplete="username" value=(with.email);
                (current(texts, "current"))
                div.field {
                    label for="new" { (texts.new) }
                    input #new name="new" type="password" autocomplete="new-password" minlength="12" maxlength="128" required aria-describedby="new-hint";
                    p.hint #new-hint { (texts.new_hint) }
                }
                button.quiet { (texts.change) }
            }
        } @else {
            p { (texts.no_password) }
        }
    }
}

fn current(texts: &Texts, id: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { (texts.current) }
            input id=(id) name="current" type="password" autocomplete="current-password" required;
        }
    }
}

fn second_factor(with: &Account<'_>, texts: &Texts) -> Markup {
    html! {
        h2 { (texts.second) }
        @if with.has_totp {
            p { (texts.second_on) }
            form method="post" action="/account/totp/remove" {
                (frame::csrf_field(with.csrf))
                @if with.has_password { (current(texts, "current-totp")) }
                button.quiet { (texts.turn_off) }
            }
        } @else {
            p { (texts.second_off) }
            form method="post" action="/account/totp" {
                (frame::csrf_field(with.csrf))
                button.quiet { (texts.turn_on) }
            }
        }
    }
}

/// The page on which a second factor is set up.
#[must_use]
pub fn set_up_totp(locale: Locale, csrf: &str, key: &str, url: &str, is_wrong: bool) -> Markup {
    let texts = Texts::of(locale);
    let body = html! {
        (frame::notice(is_wrong.then_some(texts.wrong_code)))
        p { (texts.scan) }
        div.row { a.button.quiet href=(url) { (texts.open) } }
        dl { dt { (texts.key) } dd { code #key { (key) } } }
        form method="post" action="/account/totp/confirm" {
            (frame::csrf_field(csrf))
            div.field {
                label for="code" { (texts.then) }
                input #code name="code" type="text" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required autofocus;
            }
            div.row {
                button { (texts.confirm) }
                a href="/account" { (texts.cancel) }
            }
        }
    };
    frame::page(locale, texts.second, &body)
}

/// The page with the recovery codes, shown once.
#[must_use]
pub fn recovery_codes(locale: Locale, codes: &[String]) -> Markup {
    let texts = Texts::of(locale);
    let body = html! {
        p { (texts.recovery) }
        ul.codes #recovery-codes { @for code in codes { li { code { (code) } } } }
        a.button href="/account" { (texts.done) }
    };
    frame::page(locale, texts.recovery_title, &body)
}
