//! Getting in by a link: the set-up of an installation, an invitation, a new password.

use hookyard_domain::person::{Locale, Role, password::Weakness};
use maud::{Markup, html};

use crate::{frame, login::with_provider};

texts! {
    /// Of links.
    struct Texts {
        set_up: "Set up Hookyard", "Installer Hookyard";
        set_up_hint: "You are the first one here. Name your first tenant (your company or team), and make yourself its administrator.", "Vous êtes la première personne ici. Nommez votre premier espace (votre entreprise ou votre équipe) et devenez-en l’administrateur.";
        join: "Join ", "Rejoindre ";
        as_role: "You are invited as ", "Vous êtes invité comme ";
        to_choose: "Choose a password to get in.", "Choisissez un mot de passe pour entrer.";
        known: "You have an account already. Log in with it, and the invitation is accepted.", "Vous avez déjà un compte. Connectez-vous pour accepter l’invitation.";
        log_in: "Log in", "Se connecter";
        accept: "Accept", "Accepter";
        reset: "Choose a new password", "Choisir un nouveau mot de passe";
        reset_hint: "Afterwards you are logged out everywhere else.", "Ensuite, vous serez déconnecté partout ailleurs.";
        tenant: "Name of the tenant", "Nom de l’espace";
        name: "Your name", "Votre nom";
        email: "E-mail address", "Adresse e-mail";
        password: "Password", "Mot de passe";
        password_hint: "12 to 128 characters. A sentence that only you would think of is good.", "De 12 à 128 caractères. Une phrase à laquelle vous seul penseriez convient bien.";
        begin: "Begin", "Commencer";
        save: "Save", "Enregistrer";
        admin: "administrator", "administrateur";
        developer: "developer", "développeur";
        viewer: "viewer", "lecteur";
        too_short: "The password needs at least 12 characters.", "Le mot de passe doit avoir au moins 12 caractères.";
        too_long: "The password has more than 128 characters.", "Le mot de passe a plus de 128 caractères.";
        common: "This password is one of the commonest. Choose one that nobody else has.", "Ce mot de passe est l’un des plus courants. Choisissez-en un que personne d’autre n’a.";
        personal: "The password must not contain your e-mail address or your name.", "Le mot de passe ne doit contenir ni votre adresse e-mail ni votre nom.";
        bad_name: "Your name has to have 1 to 100 characters.", "Votre nom doit avoir de 1 à 100 caractères.";
        bad_email: "This is not an e-mail address.", "Ceci n’est pas une adresse e-mail.";
        bad_tenant: "The name of the tenant has to have 1 to 50 characters.", "Le nom de l’espace doit avoir de 1 à 50 caractères.";
        taken: "There is an account with this e-mail address already.", "Un compte existe déjà avec cette adresse e-mail.";
    }
}

/// What is wrong with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The password.
    Password(Weakness),
    /// The person's name.
    Name,
    /// The e-mail address.
    Email,
    /// The tenant's name.
    Tenant,
    /// Somebody has the e-mail address.
    Taken,
}

/// What is wrong with a password, for people.
#[must_use]
pub fn weakness(locale: Locale, weakness: Weakness) -> &'static str {
    let texts = Texts::of(locale);
    match weakness {
        Weakness::TooShort => texts.too_short,
        Weakness::TooLong => texts.too_long,
        Weakness::Common => texts.common,
        Weakness::Personal => texts.personal,
    }
}

/// A role, for people.
#[must_use]
pub fn role(locale: Locale, role: Role) -> &'static str {
    let texts = Texts::of(locale);
    match role {
        Role::Viewer => texts.viewer,
        Role::Developer => texts.developer,
        Role::Admin => texts.admin,
    }
}

fn trouble(locale: Locale, trouble: Option<Trouble>) -> Markup {
    let texts = Texts::of(locale);
    frame::notice(trouble.map(|trouble| match trouble {
        Trouble::Password(weak) => weakness(locale, weak),
        Trouble::Name => texts.bad_name,
        Trouble::Email => texts.bad_email,
        Trouble::Tenant => texts.bad_tenant,
        Trouble::Taken => texts.taken,
    }))
}

/// What was typed before, so that nobody types it twice. Never the password.
#[derive(Clone, Copy, Debug, Default)]
pub struct Typed<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The person's name.
    pub name: &'a str,
    /// The e-mail address.
    pub email: &'a str,
}

/// The page of the set-up link. Its form goes to where the page is.
#[must_use]
pub fn set_up(locale: Locale, csrf: &str, typed: &Typed<'_>, wrong: Option<Trouble>) -> Markup {
    let texts = Texts::of(locale);
    let body = html! {
        (trouble(locale, wrong))
        p { (texts.set_up_hint) }
        form method="post" {
            (frame::csrf_field(csrf))
            (text("tenant", texts.tenant, typed.tenant, "organization", 50, true))
            (text("name", texts.name, typed.name, "name", 100, false))
            (email(texts, typed.email, false))
            (password(texts, false))
            button.wide { (texts.begin) }
        }
    };
    frame::page(locale, texts.set_up, &body)
}

/// An invitation to a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Invited<'a> {
    /// Language.
    pub locale: Locale,
    /// Token of its form.
    pub csrf: &'a str,
    /// The tenant's name.
    pub tenant: &'a str,
    /// What the person may do there.
    pub role: Role,
    /// Whom it invites.
    pub email: &'a str,
    /// The path of this page.
    pub path: &'a str,
    /// What people know the identity provider as, if they may get in with it.
    pub provider: Option<&'a str>,
}

/// The page of an invitation for somebody without an account.
#[must_use]
pub fn join(with: &Invited<'_>, typed: &Typed<'_>, wrong: Option<Trouble>) -> Markup {
    let texts = Texts::of(with.locale);
    let rest = html! {
        (trouble(with.locale, wrong))
        p { (texts.to_choose) }
        form method="post" {
            (frame::csrf_field(with.csrf))
            (email(texts, with.email, true))
            (text("name", texts.name, typed.name, "name", 100, true))
            (password(texts, false))
            button.wide { (texts.begin) }
        }
        (by_provider(with))
    };
    invited(with, &rest)
}

/// The page of an invitation for somebody who is logged in.
#[must_use]
pub fn join_as_self(with: &Invited<'_>) -> Markup {
    let texts = Texts::of(with.locale);
    let rest = html! {
        form method="post" {
            (frame::csrf_field(with.csrf))
            button.wide autofocus { (texts.accept) }
        }
    };
    invited(with, &rest)
}

/// The page of an invitation for somebody who has an account and is not logged in with it.
#[must_use]
pub fn join_after_log_in(with: &Invited<'_>) -> Markup {
    let texts = Texts::of(with.locale);
    let rest = html! {
        p { (texts.known) }
        a.button.wide href={ "/login?return_to=" (with.path) } { (texts.log_in) }
        (by_provider(with))
    };
    invited(with, &rest)
}

fn by_provider(with: &Invited<'_>) -> Markup {
    with_provider(with.locale, with.provider, &format!("return_to={}", with.path))
}

fn invited(with: &Invited<'_>, rest: &Markup) -> Markup {
    let texts = Texts::of(with.locale);
    let body = html! {
        p { (texts.as_role) strong { (role(with.locale, with.role)) } " (" (with.email) ")." }
        (rest)
    };
    frame::page(with.locale, &format!("{}{}", texts.join, with.tenant), &body)
}

/// The page of a link that sets a password anew.
#[must_use]
pub fn reset(locale: Locale, csrf: &str, address: &str, wrong: Option<Trouble>) -> Markup {
    let texts = Texts::of(locale);
    let body = html! {
        (trouble(locale, wrong))
        p { (texts.reset_hint) }
        form method="post" {
            (frame::csrf_field(csrf))
            (email(texts, address, true))
            (password(texts, true))
            button.wide { (texts.save) }
        }
    };
    frame::page(locale, texts.reset, &body)
}

fn text(name: &str, label: &str, value: &str, autocomplete: &str, most: usize, focus: bool) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) type="text" autocomplete=(autocomplete) maxlength=(most) required autofocus[focus] value=(value);
        }
    }
}

fn email(texts: &Texts, value: &str, is_fixed: bool) -> Markup {
    html! {
        div.field {
            label for="email" { (texts.email) }
            input #email name="email" type="email" autocomplete="username" maxlength="254" required readonly[is_fixed] value=(value);
        }
    }
}

fn password(texts: &Texts, focus: bool) -> Markup {
    html! {
        div.field {
            label for="password" { (texts.password) }
            input #password name="password" type="password" autocomplete="new-password" minlength="12" maxlength="128" required autofocus[focus] aria-describedby="password-hint";
            p.hint #password-hint { (texts.password_hint) }
        }
    }
}
