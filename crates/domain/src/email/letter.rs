//! What stands in mail, in each language. Plain text: a subject, a few lines, a link.

use super::Email;
use crate::person::{Locale, Role};

/// A letter to somebody.
#[derive(Clone, Copy, Debug)]
pub enum Letter<'a> {
    /// Somebody is invited to a tenant.
    Invitation {
        /// Its name.
        tenant: &'a str,
        /// Who invites, if a person does.
        inviter: Option<&'a str>,
        /// As what.
        role: Role,
        /// The link. A secret.
        link: &'a str,
    },
    /// Somebody sets a new password.
    NewPassword {
        /// The link. A secret.
        link: &'a str,
    },
    /// A task has ended.
    TaskEnded {
        /// Its title.
        title: &'a str,
        /// How, as a word of the API: `completed`, `failed` or `cancelled`.
        status: &'a str,
        /// Its result, or what went wrong.
        text: &'a str,
        /// Where it can be looked at.
        link: &'a str,
    },
    /// Deliveries to a hook or consumer fail, and it will be disabled, or has been.
    HookInTrouble {
        /// Where it delivers.
        url: &'a str,
        /// How far it is on its way to being disabled, in percent; 100 when it was.
        percent: u8,
        /// What is wrong, in this language.
        explanation: &'a str,
        /// What to do about it, in this language.
        advice: &'a str,
        /// Where more is told.
        link: &'a str,
    },
    /// A task asks something.
    TaskAsks {
        /// Its title.
        title: &'a str,
        /// The question.
        question: &'a str,
        /// Where it is answered. A secret, and good for one answer.
        link: &'a str,
    },
}

/// The longest part of a result that goes into a mail, in characters.
const MAX_TEXT_CHARS: usize = 4_000;

impl Letter<'_> {
    /// The mail to this address in this language.
    #[must_use]
    pub fn to(&self, address: &str, locale: Locale) -> Email {
        let (subject, text) = match locale {
            Locale::En => self.english(),
            Locale::Fr => self.french(),
        };
        Email::new(address, &subject, text)
    }

    fn english(&self) -> (String, String) {
        match *self {
            Self::Invitation { tenant, inviter, role, link } => {
                let who = inviter.unwrap_or("An administrator");
                let role = role.as_str();
                (
                    format!("Invitation to {tenant}"),
                    format!(
                        "{who} invites you to {tenant} on Hookyard, as {role}.\n\nAccept here:\n{link}\n\n\
                         The link works once and for seven days. If you do not know what this is about, do nothing.\n"
                    ),
                )
            }
            Self::NewPassword { link } => (
                "Set a new password".to_owned(),
                format!(
                    "With this link you set a new password for Hookyard:\n{link}\n\n\
                     It works once and for seven days. Whoever administers this installation has asked for it.\n"
                ),
            ),
            Self::TaskEnded { title, status, text, link } => (
                format!("Task {status}: {title}"),
                format!("The task “{title}” is {status}.\n\n{}\n\n{link}\n", cut(text)),
            ),
            Self::HookInTrouble { url, percent: 100, explanation, advice, link } => (
                "A webhook was disabled".to_owned(),
                format!(
                    "Nothing is delivered any more to\n{url}\n\n{explanation} {advice}\n\n\
                     When it works again, enable it and replay what it has missed. More:\n{link}\n"
                ),
            ),
            Self::HookInTrouble { url, percent, explanation, advice, link } => (
                format!("A webhook fails: {percent} % of the way to being disabled"),
                format!("Deliveries fail to\n{url}\n\n{explanation} {advice}\n\nMore:\n{link}\n"),
            ),
            Self::TaskAsks { title, question, link } => (
                format!("A question: {title}"),
                format!(
                    "The task “{title}” waits for an answer:\n\n{}\n\nAnswer here, once:\n{link}\n",
                    cut(question)
                ),
            ),
        }
    }

    fn french(&self) -> (String, String) {
        match *self {
            Self::Invitation { tenant, inviter, role, link } => {
                let who = inviter.unwrap_or("Un administrateur");
                let role = match role {
                    Role::Viewer => "lecteur",
                    Role::Developer => "développeur",
                    Role::Admin => "administrateur",
                };
                (
                    format!("Invitation à rejoindre {tenant}"),
                    format!(
                        "{who} vous invite à rejoindre {tenant} sur Hookyard, avec le rôle {role}.\n\n\
                         Pour accepter\u{a0}:\n{link}\n\nLe lien fonctionne une seule fois, pendant sept jours. \
                         Si vous ne savez pas de quoi il s'agit, ne faites rien.\n"
                    ),
                )
            }
            Self::NewPassword { link } => (
                "Définir un nouveau mot de passe".to_owned(),
                format!(
                    "Ce lien vous permet de définir un nouveau mot de passe pour Hookyard\u{a0}:\n{link}\n\n\
                     Il fonctionne une seule fois, pendant sept jours. L'administrateur de cette installation l'a demandé.\n"
                ),
            ),
            Self::TaskEnded { title, status, text, link } => {
                let status = match status {
                    "completed" => "terminée",
                    "failed" => "en échec",
                    "cancelled" => "annulée",
                    other => other,
                };
                (
                    format!("Tâche {status}\u{a0}: {title}"),
                    format!("La tâche «\u{a0}{title}\u{a0}» est {status}.\n\n{}\n\n{link}\n", cut(text)),
                )
            }
            Self::HookInTrouble { url, percent: 100, explanation, advice, link } => (
                "Un webhook a été désactivé".to_owned(),
                format!(
                    "Plus rien n'est livré à\n{url}\n\n{explanation} {advice}\n\n\
                     Dès qu'il fonctionne de nouveau, réactivez-le et renvoyez-lui ce qu'il a manqué. Pour en savoir plus\u{a0}:\n{link}\n"
                ),
            ),
            Self::HookInTrouble { url, percent, explanation, advice, link } => (
                format!("Un webhook échoue\u{a0}: à {percent} % de sa désactivation"),
                format!(
                    "Des livraisons échouent vers\n{url}\n\n{explanation} {advice}\n\nPour en savoir plus\u{a0}:\n{link}\n"
                ),
            ),
            Self::TaskAsks { title, question, link } => (
                format!("Une question\u{a0}: {title}"),
                format!(
                    "La tâche «\u{a0}{title}\u{a0}» attend une réponse\u{a0}:\n\n{}\n\nPour répondre, une seule fois\u{a0}:\n{link}\n",
                    cut(question)
                ),
            ),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_its_link_in_both_languages() {
        let link = "https://hookyard.example/x";
        let letters = [
            Letter::Invitation { tenant: "Acme", inviter: Some("Ada"), role: Role::Developer, link },
            Letter::Invitation { tenant: "Acme", inviter: None, role: Role::Viewer, link },
            Letter::NewPassword { link },
            Letter::TaskEnded { title: "Café ☕", status: "completed", text: "Good.", link },
            Letter::TaskAsks { title: "Café ☕", question: "Which?", link },
            Letter::HookInTrouble { url: "https://a.b/", percent: 70, explanation: "x.", advice: "y.", link },
            Letter::HookInTrouble {
                url: "https://a.b/",
                percent: 100,
                explanation: "x.",
                advice: "y.",
                link,
            },
        ];
        for letter in letters {
            let both = [Locale::En, Locale::Fr].map(|locale| letter.to("ada@example.com", locale));
            assert!(
                both.iter().all(|mail| mail.text.contains(link) && mail.to == "ada@example.com"),
                "{both:?}"
            );
            assert_ne!(both[0].text, both[1].text);
            assert_ne!(both[0].subject, both[1].subject);
        }
    }

    #[test]
    fn a_long_result_is_cut_and_a_title_adds_no_header() {
        let of = |chars: usize| {
            let text = "é".repeat(chars);
            let letter = Letter::TaskEnded { title: "a\nBcc: x", status: "failed", text: &text, link: "l" };
            letter.to("a@b.c", Locale::En)
        };
        assert!(!of(MAX_TEXT_CHARS).text.contains('…') && of(MAX_TEXT_CHARS + 1).text.contains("é…\n"));
        assert_eq!(of(1).subject, "Task failed: a Bcc: x");
    }
}
