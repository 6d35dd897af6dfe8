//! Answering the question of a task by a link.

use hookyard_domain::{person::Locale, task::answer::BadAnswer};
use maud::{Markup, html};

use crate::frame;

texts! {
    /// Of questions.
    struct Texts {
        asks: "A task asks you", "Une tâche vous pose une question";
        task: "Task: ", "Tâche : ";
        answer: "Your answer", "Votre réponse";
        choose: "Choose an answer", "Choisissez une réponse";
        schema: "The answer has to follow this JSON Schema:", "La réponse doit suivre ce schéma JSON :";
        send: "Send", "Envoyer";
        until: "It can be answered until ", "La réponse est possible jusqu’au ";
        thanks: "Thank you", "Merci";
        taken: "Your answer was taken, and the task goes on. You can close this page.", "Votre réponse a été enregistrée et la tâche continue. Vous pouvez fermer cette page.";
        answered: "This question has been answered already", "Cette question a déjà reçu une réponse";
        answered_hint: "Nothing more is to be done.", "Il n’y a plus rien à faire.";
        over: "This question can no longer be answered", "Il n’est plus possible de répondre à cette question";
        over_hint: "The time for an answer is over, or the task has ended.", "Le délai de réponse est écoulé ou la tâche est terminée.";
        too_long: "This answer is too long.", "Cette réponse est trop longue.";
        no_choice: "Please choose one of: ", "Veuillez choisir parmi : ";
        breaks: "This answer does not follow the schema", "Cette réponse ne suit pas le schéma";
        at: " at ", " à ";
        unreadable: "This answer cannot be read.", "Cette réponse est illisible.";
        empty: "Please write or choose an answer.", "Veuillez écrire ou choisir une réponse.";
    }
}

/// A question that is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Language.
    pub locale: Locale,
    /// What the task is called.
    pub title: &'a str,
    /// The question.
    pub question: &'a str,
    /// The answers it may have; none = any.
    pub choices: &'a [String],
    /// A JSON Schema that the answer has to follow.
    pub schema: Option<&'a str>,
    /// Until when it can be answered, as it is printed.
    pub until: &'a str,
    /// What was written before.
    pub typed: &'a str,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
pub enum Trouble<'a> {
    /// There is none.
    Empty,
    /// The question may not have it.
    Refused(&'a BadAnswer),
}

/// The page with the question. Its form goes to where the page is.
#[must_use]
pub fn question(asked: &Question<'_>, wrong: Option<Trouble<'_>>) -> Markup {
    let texts = Texts::of(asked.locale);
    let wrong = wrong.map(|trouble| match trouble {
        Trouble::Empty => texts.empty.to_owned(),
        Trouble::Refused(BadAnswer::TooLong) => texts.too_long.to_owned(),
        Trouble::Refused(BadAnswer::NoChoice { choices }) => format!("{}{choices}", texts.no_choice),
        Trouble::Refused(BadAnswer::Schema { at, rule }) => {
            let place = if at.is_empty() { String::new() } else { format!("{}{at}", texts.at) };
            format!("{}{place} ({rule}).", texts.breaks)
        }
        Trouble::Refused(BadAnswer::Unreadable) => texts.unreadable.to_owned(),
    });
    let body = html! {
        (frame::notice(wrong.as_deref()))
        p.hint { (texts.task) (asked.title) }
        @for line in asked.question.lines() { p { (line) } }
        form method="post" {
            @if asked.choices.is_empty() {
                div.field {
                    label for="answer" { (texts.answer) }
                    textarea #answer name="answer" rows="6" maxlength="20000" required autofocus { (asked.typed) }
                }
                @if let Some(schema) = asked.schema {
                    p.hint { (texts.schema) }
                    pre { (schema) }
                }
            } @else {
                fieldset {
                    legend { (texts.choose) }
                    @for (at, choice) in asked.choices.iter().enumerate() {
                        div.field {
                            label { input type="radio" name="answer" value=(choice) required checked[choice == asked.typed] autofocus[at == 0]; " " (choice) }
                        }
                    }
                }
            }
            button.wide { (texts.send) }
        }
        p.hint { (texts.until) (asked.until) }
    };
    frame::page(asked.locale, texts.asks, &body)
}

/// The page after an answer was taken.
#[must_use]
pub fn thanks(locale: Locale) -> Markup {
    let texts = Texts::of(locale);
    frame::page(locale, texts.thanks, &html! { p { (texts.taken) } })
}

/// The page of a question that was answered before.
#[must_use]
pub fn answered(locale: Locale) -> Markup {
    let texts = Texts::of(locale);
    frame::page(locale, texts.answered, &html! { p { (texts.answered_hint) } })
}

/// The page of a question that cannot be answered any more.
#[must_use]
pub fn over(locale: Locale) -> Markup {
    let texts = Texts::of(locale);
    frame::page(locale, texts.over, &html! { p { (texts.over_hint) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_model_is_escaped() {
        let choices = ["<b>a</b>".to_owned()];
        for choices in [&choices[..], &[]] {
            let asked = Question {
                locale: Locale::Fr,
                title: "<script>",
                question: "Which\n<img src=x>?",
                choices,
                schema: Some("{\"<\":1}"),
                until: "2026",
                typed: "</textarea>",
            };
            let page =
                question(&asked, Some(Trouble::Refused(&BadAnswer::NoChoice { choices: "<i>".to_owned() })))
                    .into_string();
            for bad in ["<b>a", "<img", "<i>", "</textarea></textarea>", "{\"<"] {
                assert!(!page.contains(bad), "{bad}: {page}");
            }
            assert!(page.contains("Une tâche vous pose une question"));
        }
    }
}
