//! Server-sent events as they come in pieces (WHATWG HTML §9.2.6), as far as the two APIs use them: no `id`, no `retry`.

/// Longest event: what is longer is no event of these APIs.
const MAX_EVENT: usize = 1 << 20;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; empty if it has none.
    pub(crate) name: String,
    /// Its lines of data, joined.
    pub(crate) data: String,
}

/// Puts events together.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The last byte was a CR: an LF after it belongs to it.
    after_cr: bool,
    began: bool,
    name: String,
    data: String,
    has_data: bool,
}

/// An event that is longer than any can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Events {
    /// Takes the next bytes and gives what they completed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    complete.extend(self.end_of_line(&line));
                }
                byte => {
                    if self.line.len() + self.data.len() >= MAX_EVENT {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(complete)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        let mut line = String::from_utf8_lossy(line);
        if !std::mem::replace(&mut self.began, true)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned().into();
        }
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return std::mem::take(&mut self.has_data).then_some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {} // comments begin with a colon, other fields are none of ours
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = "\u{feff}event: a\ndata: {\"x\":\n: still here\ndata: \"é\"}\n\nevent:b\r\ndata:1\r\n\r\ndata\r\rid: 7\n\n\
                    data: cut off";
        let expected = [event("a", "{\"x\":\n\"é\"}"), event("b", "1"), event("", "")];
        for size in 1..text.len() {
            let mut events = Events::default();
            let got: Vec<Event> =
                text.as_bytes().chunks(size).flat_map(|piece| events.push(piece).unwrap()).collect();
            assert_eq!(got, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_given_up() {
        let mut events = Events::default();
        assert_eq!(events.push(b"data: "), Ok(vec![]));
        assert_eq!(events.push(&vec![b'x'; MAX_EVENT]), Err(TooLong));
        let mut events = Events::default();
        let lines = "data: x\n".repeat(MAX_EVENT);
        assert_eq!(events.push(lines.as_bytes()), Err(TooLong));
    }
}
