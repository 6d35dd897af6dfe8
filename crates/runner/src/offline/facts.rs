//! What can be picked out of a text by its form: addresses, links, dates, amounts, telephone and reference numbers.

use std::{ops::Range, sync::LazyLock};

use linkify::{LinkFinder, LinkKind};
use regex::Regex;

/// Most findings of a kind.
const MOST: usize = 30;

/// What was found, each as it is written, without repetition, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) emails: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) dates: Vec<String>,
    pub(crate) amounts: Vec<String>,
    pub(crate) phones: Vec<String>,
    /// Numbers of orders, invoices and tickets.
    pub(crate) references: Vec<String>,
}

struct Forms {
    dates: Option<Regex>,
    amounts: Option<Regex>,
    phones: Option<Regex>,
    references: Option<Regex>,
}

const MONTHS: &str = "january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|\
    aug|sept?|oct|nov|dec|janvier|février|fevrier|mars|avril|mai|juin|juillet|août|aout|septembre|octobre|novembre|décembre|\
    decembre|janv|févr|avr|juil|déc";
const CURRENCIES: &str = "usd|eur|gbp|chf|cad|aud|jpy|euros?|dollars?|pounds?|livres?";

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    // `None` cannot happen: the tests below would see it.
    let form = |pattern: &str| Regex::new(&format!("(?i){pattern}")).ok();
    Forms {
        dates: form(&format!(
            r"\b(?:\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}[/.]\d{{1,2}}[/.](?:\d{{4}}|\d{{2}})|(?:{MONTHS})\.?\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?|\d{{1,2}}(?:st|nd|rd|th|er)?\s(?:of\s)?(?:{MONTHS})\b\.?(?:,?\s\d{{4}})?)\b"
        )),
        amounts: form(&format!(
            r"(?:[$€£¥]|\b(?:{CURRENCIES}))\s?\d{{1,3}}(?:[,.\u{{a0}}\u{{202f}} ]\d{{3}})*(?:[.,]\d{{1,2}})?\b(?:\s?(?:k|m|bn|million|billion)\b)?|\b\d{{1,9}}(?:[,.\u{{a0}}\u{{202f}} ]\d{{3}})*(?:[.,]\d{{1,2}})?\s?(?:[$€£¥]|(?:{CURRENCIES})\b)|\b\d{{1,3}}(?:[.,]\d{{1,2}})?\s?%"
        )),
        phones: form(r"(?:\+|\b)\d{1,3}(?:[ .\-/]?\(?\d{1,4}\)?){2,6}\b|\(\d{3}\)\s?\d{3}-\d{4}\b"),
        references: form(
            r"(?:\b(?:order|invoice|ticket|case|reference|ref|commande|facture|dossier|n°|no\.)\s*(?:number|numéro|no\.?|n°|id)?\s*[:#]?\s*|#)([a-z]{0,6}-?\d[\w-]{2,20})",
        ),
    }
});

pub(crate) fn of(text: &str) -> Facts {
    let mut facts = Facts::default();
    // What belongs to one kind is no other: a date is no telephone number.
    let mut taken: Vec<Range<usize>> = Vec::new();
    let mut finder = LinkFinder::new();
    finder.url_must_have_scheme(true);
    for link in finder.links(text) {
        let kind = match link.kind() {
            LinkKind::Email => &mut facts.emails,
            LinkKind::Url => &mut facts.links,
            _ => continue,
        };
        note(kind, link.as_str());
        taken.push(link.start()..link.end());
    }
    let forms = &*FORMS;
    for (form, kind, is_phone) in [
        (&forms.dates, &mut facts.dates, false),
        (&forms.amounts, &mut facts.amounts, false),
        (&forms.references, &mut facts.references, false),
        (&forms.phones, &mut facts.phones, true),
    ] {
        let Some(form) = form else { continue };
        let mut found = Vec::new();
        for captures in form.captures_iter(text) {
            let Some(part) = captures.get(1).or(captures.get(0)) else { continue };
            let digits = part.as_str().bytes().filter(u8::is_ascii_digit).count();
            if is_phone && !(8..=15).contains(&digits) || kind.len() + found.len() > MOST {
                continue;
            }
            let range = part.range();
            if !taken.iter().any(|other| other.start < range.end && range.start < other.end) {
                note(kind, part.as_str());
                found.push(range);
            }
        }
        taken.extend(found);
    }
    facts
}

fn note(kind: &mut Vec<String>, found: &str) {
    let found = found.trim();
    if kind.len() < MOST && !kind.iter().any(|other| other == found) {
        kind.push(found.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn everything_is_found_once_and_is_of_one_kind() {
        let text = "Order #A-10442 (invoice no. INV-2025-0815) of 2025-01-19 and January 5, 2026: $1,200.50, then € 99 and \
                    1 250,00 €. Write to jane.doe@example.com or jane.doe@example.com, see https://example.com/a?b=1. \
                    Call +33 1 42 68 53 00 or (555) 123-4567. Due 31/12/2025, le 5 janvier 2026. Up 12.5%.";
        assert_eq!(
            of(text),
            Facts {
                emails: texts(&["jane.doe@example.com"]),
                links: texts(&["https://example.com/a?b=1"]),
                dates: texts(&["2025-01-19", "January 5, 2026", "31/12/2025", "5 janvier 2026"]),
                amounts: texts(&["$1,200.50", "€ 99", "1 250,00 €", "12.5%"]),
                phones: texts(&["+33 1 42 68 53 00", "(555) 123-4567"]),
                references: texts(&["A-10442", "INV-2025-0815"]),
            }
        );
    }

    #[test]
    fn plain_text_holds_nothing_and_every_form_is_one() {
        assert_eq!(of("The cat sat on the mat in May, 3 times or 1234."), Facts::default());
        let forms = &*FORMS;
        assert!(
            [&forms.dates, &forms.amounts, &forms.phones, &forms.references]
                .iter()
                .all(|form| form.is_some())
        );
    }

    #[test]
    fn no_more_than_thirty_of_a_kind() {
        let text: String = (0..MOST + 1).map(|n| format!("user{n}@example.com ")).collect();
        assert_eq!(of(&text).emails.len(), MOST);
    }
}
