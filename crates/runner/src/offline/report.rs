//! The result as people read it, in English or French. Webhooks carry it as one text.

use hookyard_domain::task::AgentType;
use whatlang::Lang;

use crate::offline::{
    Analysis, Instead,
    facts::Facts,
    language::Tongue,
    sentiment::{Sentiment, Tone},
    summary::shorten,
    triage::{Category, Triage, Urgency},
};

/// Everything that a result may hold.
pub(crate) struct Report<'a> {
    pub(crate) language: Option<Lang>,
    pub(crate) sentiment: Option<Sentiment>,
    pub(crate) topics: Option<Vec<String>>,
    pub(crate) summary: Option<Vec<String>>,
    pub(crate) triage: Option<&'a Triage>,
    pub(crate) reply: Option<&'a Triage>,
    pub(crate) facts: Option<Facts>,
    pub(crate) cut: bool,
}

/// One text in both languages.
fn say(tongue: Tongue, english: &'static str, french: &'static str) -> &'static str {
    match tongue {
        Tongue::English => english,
        Tongue::French => french,
    }
}

pub(crate) fn write(tongue: Tongue, report: &Report<'_>) -> Analysis {
    let t = |english, french| say(tongue, english, french);
    let mut lines = vec![
        t(
            "Offline analysis (no language model was used)",
            "Analyse hors ligne (aucun modèle de langage n'a été utilisé)",
        )
        .to_owned(),
        String::new(),
    ];
    let mut short: Vec<String> = Vec::new();
    lines.push(format!("{}: {}", t("Language", "Langue"), language(tongue, report.language)));
    if let Some(triage) = report.triage {
        let (name, team) = category(tongue, triage.category);
        lines.push(format!("{}: {name}", t("Category", "Catégorie")));
        if let Some(second) = triage.second {
            lines.push(format!("{}: {}", t("Also about", "Concerne aussi"), category(tongue, second).0));
        }
        let how = urgency(tongue, triage.urgency);
        lines.push(format!("{}: {how}", t("Urgency", "Urgence")));
        lines.push(format!("{}: {team}", t("Suggested team", "Équipe suggérée")));
        if !triage.because.is_empty() {
            lines.push(format!("{}: {}", t("Decided by", "D'après"), triage.because.join(", ")));
        }
        short.push(format!("{name}, {} {how}", t("urgency", "urgence")));
    }
    if let Some(sentiment) = &report.sentiment {
        lines.extend(sound(tongue, sentiment));
        short.extend(
            sentiment.tone.map(|tone| format!("{}: {}", t("Sentiment", "Sentiment"), word(tongue, tone))),
        );
    }
    if let Some(topics) = &report.topics {
        let list =
            if topics.is_empty() { t("none found", "aucun trouvé").to_owned() } else { topics.join(", ") };
        lines.push(format!("{}: {list}", t("Topics", "Thèmes")));
        short.push(format!(
            "{}: {}",
            t("Topics", "Thèmes"),
            topics.iter().take(3).map(|topic| &**topic).collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(summary) = &report.summary {
        section(&mut lines, t("Key points", "Points clés"));
        if summary.is_empty() {
            lines.push(t("- The text is empty.", "- Le texte est vide.").to_owned());
        }
        lines.extend(summary.iter().map(|sentence| format!("- {sentence}")));
        if short.is_empty() {
            short.extend(summary.first().cloned());
        }
    }
    if let Some(triage) = report.reply {
        // An answer speaks the language of whoever wrote.
        let tongue = if report.language == Some(Lang::Fra) { Tongue::French } else { Tongue::English };
        section(
            &mut lines,
            t("Suggested reply (a template to edit)", "Réponse suggérée (un modèle à adapter)"),
        );
        lines.push(reply(tongue, triage));
    }
    if let Some(facts) = &report.facts {
        found(tongue, facts, &mut lines);
        let count = facts.emails.len()
            + facts.links.len()
            + facts.dates.len()
            + facts.amounts.len()
            + facts.phones.len()
            + facts.references.len();
        short.push(format!("{count} {}", t("details found", "éléments trouvés")));
    }
    if report.cut {
        lines.push(String::new());
        lines.push(
            t(
                "Only the first 128 KiB of the text were looked at.",
                "Seuls les 128 premiers Kio du texte ont été lus.",
            )
            .to_owned(),
        );
    }
    Analysis { result: lines.join("\n"), summary: shorten(&short.join(". ")), tongue }
}

/// Lines that say what was not done, each with a line feed before it.
pub(crate) fn notes(tongue: Tongue, agent: AgentType, instead: Option<&Instead>) -> String {
    let mut notes = String::new();
    if let Some(Instead { model, provider }) = instead {
        notes.push_str(&match tongue {
            Tongue::English => {
                format!("\nNote: {model} was asked for, but there is no API key for {provider}.")
            }
            Tongue::French => {
                format!("\nNote : {model} était demandé, mais il n'y a pas de clé d'API pour {provider}.")
            }
        });
    }
    if agent == AgentType::Plan {
        notes.push_str(say(
            tongue,
            "\nNote: making a plan needs a language model; this is an analysis of the text.",
            "\nNote : établir un plan demande un modèle de langage ; ceci est une analyse du texte.",
        ));
    }
    notes
}

fn section(lines: &mut Vec<String>, title: &str) {
    lines.push(String::new());
    lines.push(format!("{title}:"));
}

fn sound(tongue: Tongue, sentiment: &Sentiment) -> Vec<String> {
    let t = |english, french| say(tongue, english, french);
    let Some(tone) = sentiment.tone else {
        return vec![
            t(
                "Sentiment: not available offline for this language",
                "Sentiment : non disponible hors ligne pour cette langue",
            )
            .to_owned(),
        ];
    };
    let mut lines = vec![format!(
        "{}: {} ({} {:+.2}; {} {}, {} {}, {} {})",
        t("Sentiment", "Sentiment"),
        word(tongue, tone),
        t("score", "score"),
        sentiment.score,
        sentiment.positive,
        t("positive", "positives"),
        sentiment.negative,
        t("negative", "négatives"),
        sentiment.sentences,
        t("sentences in all", "phrases en tout"),
    )];
    let quote = |title, sentence: &Option<String>| {
        sentence.as_ref().map(|sentence| format!("  {title}: “{}”", shorten(sentence)))
    };
    lines.extend(quote(t("Most positive", "La plus positive"), &sentiment.best));
    lines.extend(quote(t("Most negative", "La plus négative"), &sentiment.worst));
    lines
}

fn word(tongue: Tongue, tone: Tone) -> &'static str {
    match tone {
        Tone::Positive => say(tongue, "positive", "positif"),
        Tone::Negative => say(tongue, "negative", "négatif"),
        Tone::Mixed => say(tongue, "mixed", "mitigé"),
        Tone::Neutral => say(tongue, "neutral", "neutre"),
    }
}

fn language(tongue: Tongue, language: Option<Lang>) -> &'static str {
    match (tongue, language) {
        (Tongue::English, None) => "unknown",
        (Tongue::French, None) => "inconnue",
        (Tongue::English, Some(language)) => language.eng_name(),
        (Tongue::French, Some(Lang::Eng)) => "anglais",
        (Tongue::French, Some(Lang::Fra)) => "français",
        (Tongue::French, Some(Lang::Deu)) => "allemand",
        (Tongue::French, Some(Lang::Spa)) => "espagnol",
        (Tongue::French, Some(Lang::Ita)) => "italien",
        (Tongue::French, Some(Lang::Por)) => "portugais",
        (Tongue::French, Some(Lang::Nld)) => "néerlandais",
        (Tongue::French, Some(Lang::Pol)) => "polonais",
        (Tongue::French, Some(Lang::Rus)) => "russe",
        (Tongue::French, Some(language)) => language.name(),
    }
}

/// The kind of request, and who should have it.
fn category(tongue: Tongue, category: Category) -> (&'static str, &'static str) {
    let t = |english, french| say(tongue, english, french);
    match category {
        Category::Billing => (t("billing", "facturation"), t("billing", "facturation")),
        Category::Technical => {
            (t("technical problem", "problème technique"), t("technical support", "support technique"))
        }
        Category::Account => {
            (t("account and log-in", "compte et connexion"), t("customer support", "support client"))
        }
        Category::Delivery => (t("delivery", "livraison"), t("logistics", "logistique")),
        Category::Cancellation => (
            t("cancellation or refund", "annulation ou remboursement"),
            t("customer retention", "fidélisation"),
        ),
        Category::Feature => (t("feature request", "demande de fonctionnalité"), t("product", "produit")),
        Category::Sales => (t("sales enquiry", "demande commerciale"), t("sales", "ventes")),
        Category::Praise => (t("praise", "compliment"), t("customer success", "réussite client")),
        Category::Complaint => (t("complaint", "réclamation"), t("customer support", "support client")),
        Category::General => {
            (t("general question", "question générale"), t("customer support", "support client"))
        }
    }
}

fn urgency(tongue: Tongue, urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::High => say(tongue, "high", "haute"),
        Urgency::Normal => say(tongue, "normal", "normale"),
        Urgency::Low => say(tongue, "low", "basse"),
    }
}

fn reply(tongue: Tongue, triage: &Triage) -> String {
    let t = |english, french| say(tongue, english, french);
    let greeting = match &triage.name {
        Some(name) => format!("{} {name},", t("Hello", "Bonjour")),
        None => t("Hello,", "Bonjour,").to_owned(),
    };
    let feeling = match triage.category {
        Category::Praise => {
            t("Thank you very much for your kind words.", "Merci beaucoup pour vos mots aimables.")
        }
        _ if triage.upset => t(
            "Thank you for writing to us, and we are sorry for the trouble this has caused you.",
            "Merci de nous avoir écrit ; nous sommes désolés des désagréments rencontrés.",
        ),
        _ => t("Thank you for writing to us.", "Merci de nous avoir écrit."),
    };
    let about = match triage.category {
        Category::Billing => t(
            "We are checking your billing and will tell you what we found, with a correction if one is due.",
            "Nous vérifions votre facturation et vous dirons ce que nous avons trouvé, avec une correction s'il y a lieu.",
        ),
        Category::Technical => t(
            "Our technical team is looking into the problem. Could you tell us when it began, and what you see exactly?",
            "Notre équipe technique examine le problème. Pourriez-vous nous dire quand il a commencé et ce que vous voyez exactement ?",
        ),
        Category::Account => t(
            "We are looking into the access to your account. Please do not send us your password.",
            "Nous examinons l'accès à votre compte. Merci de ne pas nous envoyer votre mot de passe.",
        ),
        Category::Delivery => t(
            "We are asking the carrier where your delivery is and will write to you as soon as we know.",
            "Nous demandons au transporteur où se trouve votre livraison et vous écrirons dès que nous le saurons.",
        ),
        Category::Cancellation => t(
            "We have noted your request and will confirm what can be cancelled or refunded.",
            "Nous avons noté votre demande et vous confirmerons ce qui peut être annulé ou remboursé.",
        ),
        Category::Feature => t(
            "We have passed your idea on to the product team.",
            "Nous avons transmis votre idée à l'équipe produit.",
        ),
        Category::Sales => t(
            "A colleague of our sales team will get in touch with you.",
            "Un collègue de notre équipe commerciale prendra contact avec vous.",
        ),
        Category::Praise => t("We have passed them on to the team.", "Nous les avons transmis à l'équipe."),
        Category::Complaint | Category::General => t(
            "We have read your message and will come back to you with an answer.",
            "Nous avons lu votre message et reviendrons vers vous avec une réponse.",
        ),
    };
    let reference = triage
        .reference
        .as_ref()
        .map(|reference| {
            format!(" {}", t("Your reference is {}.", "Votre référence est {}.").replace("{}", reference))
        })
        .unwrap_or_default();
    let promise = match triage.urgency {
        Urgency::High => t(" We treat this as urgent.", " Nous traitons votre demande en urgence."),
        Urgency::Normal | Urgency::Low => "",
    };
    format!("{greeting}\n{feeling} {about}{reference}{promise}\n{}", t("Kind regards", "Cordialement"))
}

fn found(tongue: Tongue, facts: &Facts, lines: &mut Vec<String>) {
    let t = |english, french| say(tongue, english, french);
    section(lines, t("Found in the text", "Trouvé dans le texte"));
    let before = lines.len();
    for (title, found) in [
        (t("E-mail addresses", "Adresses e-mail"), &facts.emails),
        (t("Links", "Liens"), &facts.links),
        (t("Dates", "Dates"), &facts.dates),
        (t("Amounts", "Montants"), &facts.amounts),
        (t("Telephone numbers", "Numéros de téléphone"), &facts.phones),
        (t("References", "Références"), &facts.references),
    ] {
        if !found.is_empty() {
            lines.push(format!("- {title}: {}", found.join("; ")));
        }
    }
    if lines.len() == before {
        lines.push(t("- nothing", "- rien").to_owned());
    }
}
