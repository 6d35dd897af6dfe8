//! What is kept of what a command prints: all of it up to the longest result, else its last part; and text out of bytes that
//! come in pieces.

/// The longest result that the protocol takes, in bytes.
const MAX_RESULT: usize = 256 << 10;

/// The last bytes of an output.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// Bytes before them.
    dropped: usize,
}

impl Kept {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() > 2 * MAX_RESULT {
            let more = self.bytes.len() - MAX_RESULT;
            self.bytes.drain(..more);
            self.dropped += more;
        }
    }

    /// The result: without line ends at its end, as a shell would take it, and with a note when its beginning is missing.
    pub(super) fn result(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        if self.dropped == 0 && text.len() <= MAX_RESULT {
            return text.to_owned();
        }
        let note = "[the beginning of the output is left out]\n";
        let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_RESULT - note.len()));
        format!("{note}{}", &text[from..])
    }
}

/// Takes the text out of bytes; what may be the beginning of a character stays.
pub(super) fn take_text(bytes: &mut Vec<u8>) -> String {
    let complete = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // Invalid ones in the middle become U+FFFD; an end that is only incomplete waits.
        Err(_) => (1..=3.min(bytes.len()))
            .find(|cut| {
                let (_, end) = bytes.split_at(bytes.len() - cut);
                std::str::from_utf8(end)
                    .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
            })
            .map_or(bytes.len(), |cut| bytes.len() - cut),
    };
    let rest = bytes.split_off(complete);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_all_or_the_last_part_with_a_note() {
        let result = |length: usize| {
            let mut kept = Kept::default();
            // In pieces, as pipes give them.
            "é".repeat(length / 2).as_bytes().chunks(4_099).for_each(|piece| kept.push(piece));
            kept.push(b"\n\r\n");
            kept.result()
        };
        assert_eq!(result(0), "");
        assert_eq!(result(MAX_RESULT).len(), MAX_RESULT);
        for longer in [MAX_RESULT + 2, 5 * MAX_RESULT] {
            let result = result(longer);
            assert!(result.starts_with('[') && result.ends_with('é'), "{longer}");
            assert!(result.len() <= MAX_RESULT && result.len() > MAX_RESULT - 8, "{}", result.len());
        }
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        for (bytes, text, rest) in [
            (&b"abc"[..], "abc", &b""[..]),
            (b"", "", b""),
            ("é".as_bytes(), "é", b""),
            (b"a\xc3", "a", b"\xc3"),
            (b"a\xe2\x98", "a", b"\xe2\x98"),
            (b"\xf0\x9f\x98", "", b"\xf0\x9f\x98"),
            (b"a\xffb", "a\u{fffd}b", b""),
            (b"\xff\xc3", "\u{fffd}", b"\xc3"),
        ] {
            let mut held = bytes.to_vec();
            assert_eq!((take_text(&mut held).as_str(), held.as_slice()), (text, rest), "{bytes:?}");
        }
    }
}
