//! The page on which a person lets a program in, and what is shown when the browser must not be sent back to it.

use hookyard_domain::{
    credential::{Scope, Scopes},
    person::{Locale, Role},
};
use maud::{Markup, html};

use crate::frame;

texts! {
    /// Of the consent page.
    struct Texts {
        title: "{app} wants access to {tenant}", "{app} demande l’accès à {tenant}";
        signed_in: "You are logged in as", "Vous êtes connecté en tant que";
        will: "If you allow it, {app} may do this in your name until you take it back:", "Si vous l’autorisez, {app} pourra faire ceci en votre nom, jusqu’à ce que vous le retiriez :";
        role_admin: "administrator", "administrateur";
        role_developer: "developer", "développeur";
        role_viewer: "viewer", "lecteur";
        less: "{app} asked for more than your role can give. It gets what is listed here.", "{app} a demandé plus que votre rôle ne permet. Seul ce qui figure ici sera accordé.";
        back_to: "Afterwards you are sent to", "Vous serez ensuite redirigé vers";
        trust: "Only allow this if you started it yourself and trust this app.", "N’autorisez que si vous êtes à l’origine de cette demande et faites confiance à cette application.";
        allow: "Allow", "Autoriser";
        deny: "Deny", "Refuser";
        tasks_read: "See tasks and their results", "Voir les tâches et leurs résultats";
        tasks_write: "Create, change and cancel tasks", "Créer, modifier et annuler des tâches";
        automation_read: "See what automation did", "Voir ce que l’automatisation a fait";
        automation_write: "Run automation", "Lancer l’automatisation";
        hooks_read: "See webhooks, deliveries and dead letters", "Voir les webhooks, les livraisons et les échecs définitifs";
        hooks_write: "Subscribe, change, test and remove webhooks, and send deliveries again", "Créer, modifier, tester et supprimer des webhooks, et renvoyer des livraisons";
        events_read: "See events and their contents", "Voir les événements et leur contenu";
        events_write: "Send events", "Envoyer des événements";
        admin: "Do everything an administrator may: people, keys, apps, all data", "Tout ce que peut faire un administrateur : personnes, clés, applications, toutes les données";
        stopped: "This app cannot be connected", "Cette application ne peut pas être connectée";
        no_client: "The link names an app that does not exist here, or no longer does.", "Le lien désigne une application qui n’existe pas ici, ou qui n’existe plus.";
        no_redirect: "The link leads back to an address that the app has not registered. For your safety you are not sent there.", "Le lien renvoie vers une adresse que l’application n’a pas enregistrée. Par sécurité, vous n’y êtes pas redirigé.";
        malformed: "The link is damaged: a part of it is there more than once.", "Le lien est endommagé : une partie y figure plusieurs fois.";
        tell: "If you came here from an app, tell whoever makes it.", "Si une application vous a amené ici, prévenez son éditeur.";
    }
}

/// What a person is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The name of the program.
    pub app: &'a str,
    /// The name of the tenant.
    pub tenant: &'a str,
    /// The address of the person.
    pub email: &'a str,
    /// What the person may do at the tenant.
    pub role: Role,
    /// What the program would get.
    pub scopes: Scopes,
    /// Whether it asked for more than the person has.
    pub asked_for_more: bool,
    /// Where the browser goes afterwards, as people recognise it.
    pub leads_to: &'a str,
    /// The query of the request, by which the form comes back to the same question.
    pub query: &'a str,
    /// The token of the form.
    pub csrf: &'a str,
}

/// The page. Its form goes to `/oauth/authorize` with the same query and `decision`, which is `allow` or `deny`.
#[must_use]
pub fn consent(locale: Locale, question: &Question<'_>) -> Markup {
    let texts = Texts::of(locale);
    let named = |text: &str| text.replace("{tenant}", question.tenant).replace("{app}", question.app);
    let role = match question.role {
        Role::Admin => texts.role_admin,
        Role::Developer => texts.role_developer,
        Role::Viewer => texts.role_viewer,
    };
    let body = html! {
        p { (texts.signed_in) " " strong { (question.email) } " (" (role) ")." }
        p { (named(texts.will)) }
        ul.plain { @for scope in question.scopes.iter() { li { (words(texts, scope)) " " code { (scope) } } } }
        @if question.asked_for_more { p.note { (named(texts.less)) } }
        p.hint { (texts.back_to) " " strong { (question.leads_to) } ". " (texts.trust) }
        form method="post" action={ "/oauth/authorize?" (question.query) } {
            (frame::csrf_field(question.csrf))
            div.row {
                button name="decision" value="allow" { (texts.allow) }
                button.quiet name="decision" value="deny" { (texts.deny) }
            }
        }
    };
    let kept = question.query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("lang="));
    let kept: Vec<&str> = kept.collect();
    frame::page_at(locale, &named(texts.title), &kept.join("&"), &body)
}

/// Why the browser is not sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadEnd {
    /// There is no such client.
    NoClient,
    /// The address is none of the client's.
    NoRedirect,
    /// A parameter is there twice.
    Malformed,
}

/// The page of a request that is answered here and nowhere else.
#[must_use]
pub fn dead_end(locale: Locale, why: DeadEnd) -> Markup {
    let texts = Texts::of(locale);
    let reason = match why {
        DeadEnd::NoClient => texts.no_client,
        DeadEnd::NoRedirect => texts.no_redirect,
        DeadEnd::Malformed => texts.malformed,
    };
    frame::page(locale, texts.stopped, &html! { p { (reason) } p { (texts.tell) } })
}

fn words(texts: &Texts, scope: Scope) -> &'static str {
    match scope {
        Scope::TasksRead => texts.tasks_read,
        Scope::TasksWrite => texts.tasks_write,
        Scope::AutomationRead => texts.automation_read,
        Scope::AutomationWrite => texts.automation_write,
        Scope::HooksRead => texts.hooks_read,
        Scope::HooksWrite => texts.hooks_write,
        Scope::EventsRead => texts.events_read,
        Scope::EventsWrite => texts.events_write,
        Scope::Admin => texts.admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(scopes: Scopes) -> Question<'a> {
        Question {
            app: "<i>Zap</i>",
            tenant: "Acme & Co",
            email: "a@b.example",
            role: Role::Developer,
            scopes,
            asked_for_more: true,
            leads_to: "https://zapier.com",
            query: "client_id=1&state=\"x",
            csrf: "token",
        }
    }

    #[test]
    fn every_scope_is_told_in_words_of_both_languages() {
        for scope in Scope::ALL {
            let only: Scopes = [scope].into_iter().collect();
            let [en, fr] =
                [Locale::En, Locale::Fr].map(|locale| consent(locale, &question(only)).into_string());
            for (page, texts) in [(&en, &Texts::EN), (&fr, &Texts::FR)] {
                assert!(page.contains(words(texts, scope)), "{scope}: {page}");
                assert!(page.contains(texts.allow) && page.contains(texts.deny), "{page}");
            }
            assert_ne!(words(&Texts::EN, scope), words(&Texts::FR, scope));
        }
    }

    #[test]
    fn what_comes_from_others_is_escaped_and_the_question_comes_back() {
        let page = consent(Locale::En, &question(Scopes::all())).into_string();
        assert!(!page.contains("<i>") && page.contains("&lt;i&gt;Zap&lt;/i&gt;"), "{page}");
        assert!(page.contains("Acme &amp; Co") && page.contains("a@b.example"), "{page}");
        assert!(page.contains("action=\"/oauth/authorize?client_id=1&amp;state=&quot;x\""), "{page}");
        assert!(page.contains("?client_id=1&amp;state=&quot;x&amp;lang=fr\""), "the other language: {page}");
    }

    #[test]
    fn a_dead_end_is_told_in_both_languages() {
        for why in [DeadEnd::NoClient, DeadEnd::NoRedirect, DeadEnd::Malformed] {
            let [en, fr] = [Locale::En, Locale::Fr].map(|locale| dead_end(locale, why).into_string());
            assert_ne!(en, fr, "{why:?}");
        }
    }
}
