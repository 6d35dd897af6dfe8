//! `email.send`: a mail in plain text, from the installation's address.

use serde_json::json;

use super::{Action, Plan, text, wrong};
use crate::{
    email::{Email, MAX_SUBJECT_CHARS},
    person::user::parse_email,
};

/// The longest text, in characters.
const MAX_TEXT_CHARS: usize = 100_000;

pub(super) const ACTION: Action = Action {
    key: "email.send",
    title: "Send an e-mail",
    description: "Sends a mail in plain text from the address of this installation. Success means that it is on its way.",
    fields: || {
        json!({
            "type": "object",
            "required": ["to", "subject", "text"],
            "properties": {
                "to": {"type": "string", "format": "email", "title": "To", "description": "One address."},
                "subject": {"type": "string", "title": "Subject", "minLength": 1, "maxLength": MAX_SUBJECT_CHARS},
                "text": {"type": "string", "title": "Text", "minLength": 1, "maxLength": MAX_TEXT_CHARS},
            },
        })
    },
    plan: |mut input, scene| {
        if !scene.mail {
            return Err(wrong("to", "cannot be written to: this installation has no mail server"));
        }
        let to = parse_email(&text(&mut input, "to", 254)?).map_err(|reason| wrong("to", reason))?;
        let subject = text(&mut input, "subject", MAX_SUBJECT_CHARS)?;
        let text = text(&mut input, "text", MAX_TEXT_CHARS)?;
        Ok(Plan::Mail(Email::new(to, &subject, text)))
    },
};
