//! Answering the question of a task by a link.

use hookyard_domain::{
    person::Locale,
    task::{
        answer::BadAnswer,
        form::{Field, Form, Takes},
    },
};
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
        yes: "Yes", "Oui";
        no: "No", "Non";
        none: "(no answer)", "(sans réponse)";
        needed: "required", "obligatoire";
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
    /// The form that its schema asks for.
    pub form: &'a Form,
    /// A JSON Schema that the answer has to follow; shown where no form says it.
    pub schema: Option<&'a str>,
    /// Until when it can be answered, as it is printed.
    pub until: &'a str,
    /// What was sent before: names of fields, and what was written into them.
    pub sent: &'a [(String, String)],
}

/// The field of an answer that is one value.
pub const ANSWER: &str = "answer";
/// Stands before the names of an object's members, so that none of them is taken for something else.
pub const MEMBER: &str = "member.";

impl Question<'_> {
    fn typed(&self, name: &str) -> Option<&str> {
        self.sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str())
    }
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
            @match asked.form {
                _ if !asked.choices.is_empty() => (choose(asked, asked.choices)),
                Form::OneOf(options) => (choose(asked, options)),
                Form::YesOrNo => (yes_or_no(asked)),
                Form::Fields(fields) => @for (at, field) in fields.iter().enumerate() { (member(asked, at, field)) },
                Form::Text => (text(asked)),
            }
            button.wide { (texts.send) }
        }
        p.hint { (texts.until) (asked.until) }
    };
    frame::page(asked.locale, texts.asks, &body)
}

fn text(asked: &Question<'_>) -> Markup {
    let texts = Texts::of(asked.locale);
    html! {
        div.field {
            label for="answer" { (texts.answer) }
            textarea #answer name=(ANSWER) rows="6" maxlength="20000" required autofocus { (asked.typed(ANSWER).unwrap_or_default()) }
        }
        @if let Some(schema) = asked.schema {
            p.hint { (texts.schema) }
            pre { (schema) }
        }
    }
}

fn choose(asked: &Question<'_>, choices: &[String]) -> Markup {
    radios(asked, &choices.iter().map(|choice| (choice.as_str(), choice.as_str())).collect::<Vec<_>>())
}

fn yes_or_no(asked: &Question<'_>) -> Markup {
    let texts = Texts::of(asked.locale);
    radios(asked, &[("true", texts.yes), ("false", texts.no)])
}

/// Values and what is said for them.
fn radios(asked: &Question<'_>, choices: &[(&str, &str)]) -> Markup {
    let typed = asked.typed(ANSWER);
    html! {
        fieldset {
            legend { (Texts::of(asked.locale).choose) }
            @for (at, (value, label)) in choices.iter().enumerate() {
                div.field {
                    label { input type="radio" name=(ANSWER) value=(value) required checked[Some(*value) == typed] autofocus[at == 0]; " " (label) }
                }
            }
        }
    }
}

/// A member of the object that is asked for.
fn member(asked: &Question<'_>, at: usize, field: &Field) -> Markup {
    let texts = Texts::of(asked.locale);
    let (id, hint_id) = (format!("member-{at}"), format!("member-{at}-hint"));
    let name = format!("{MEMBER}{}", field.name);
    let value = asked.typed(&name).unwrap_or(&field.preset);
    let described = field.hint.as_ref().map(|_| hint_id.as_str());
    let select = |options: &[(&str, &str)]| {
        html! {
            select #(id) name=(name) required[field.required] autofocus[at == 0] aria-describedby=[described] {
                option value="" selected[value.is_empty()] { (texts.none) }
                @for (option, label) in options {
                    option value=(option) selected[*option == value] { (label) }
                }
            }
        }
    };
    let input = |kind: &str, step: Option<&str>| {
        html! {
            input #(id) name=(name) type=(kind) step=[step] value=(value) required[field.required] autofocus[at == 0] aria-describedby=[described];
        }
    };
    html! {
        div.field {
            label for=(id) { (field.label) @if field.required { " (" (texts.needed) ")" } }
            @match &field.takes {
                Takes::Flag => (select(&[("true", texts.yes), ("false", texts.no)])),
                Takes::OneOf(options) => (select(&options.iter().map(|option| (option.as_str(), option.as_str())).collect::<Vec<_>>())),
                Takes::Integer => (input("number", Some("1"))),
                Takes::Number => (input("number", Some("any"))),
                Takes::Date => (input("date", None)),
                Takes::Email => (input("email", None)),
                Takes::Text => (input("text", None)),
            }
            @if let Some(hint) = &field.hint { p.hint #(hint_id) { (hint) } }
        }
    }
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
        let field = Field {
            name: "<u>".to_owned(),
            label: "<em>".to_owned(),
            hint: Some("<em>".to_owned()),
            required: true,
            takes: Takes::OneOf(vec!["<i>".to_owned()]),
            preset: String::new(),
        };
        let text = Field { takes: Takes::Text, preset: "\"><b>a".to_owned(), ..field.clone() };
        let sent = [(ANSWER.to_owned(), "</textarea>".to_owned())];
        let forms = [Form::Text, Form::OneOf(choices.to_vec()), Form::Fields(vec![field, text])];
        let shown = forms.into_iter().map(|form| (&[][..], form)).chain([(&choices[..], Form::Text)]);
        for (choices, form) in shown {
            let asked = Question {
                locale: Locale::Fr,
                title: "<script>",
                question: "Which\n<img src=x>?",
                choices,
                form: &form,
                schema: Some("{\"<\":1}"),
                until: "2026",
                sent: &sent,
            };
            let page =
                question(&asked, Some(Trouble::Refused(&BadAnswer::NoChoice { choices: "<i>".to_owned() })))
                    .into_string();
            for bad in ["<b>a", "<img", "<i>", "</textarea></textarea>", "{\"<", "<u>", "<em>"] {
                assert!(!page.contains(bad), "{bad}: {page}");
            }
            assert!(page.contains("Une tâche vous pose une question"));
        }
    }
}
