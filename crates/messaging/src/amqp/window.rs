//! The messages of a channel that are not settled yet, and how to settle them with few frames. Pure.
//!
//! AMQP numbers the deliveries of a channel 1, 2, 3, … and `ack` with `multiple` settles everything up to a number. Readers
//! work in batches and acknowledge mostly in order, so one frame does for many.

use std::collections::VecDeque;

/// What a reader did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its work is done.
    Acknowledged,
    /// Another reader shall have it.
    GivenBack,
    /// Nobody can read it: to the dead-letter queue.
    Refused,
}

/// A frame for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Acknowledge this one and everything before it.
    AckUpTo(u64),
    /// Acknowledge this one.
    Ack(u64),
    /// Put this one back.
    Requeue(u64),
    /// Dead-letter this one.
    Refuse(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// In the hands of a reader.
    Held,
    /// Settled, the broker does not know yet.
    Decided(Verdict),
    /// The broker knows.
    Told,
}

/// The window from the oldest message that the broker holds for us to the newest.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The tag of the first mark.
    first: u64,
    marks: VecDeque<Mark>,
    /// Tags that were decided since the last [`Window::frames`].
    decided: Vec<u64>,
    held: usize,
}

impl Window {
    /// The broker delivered this. Tags grow by one.
    pub(super) fn deliver(&mut self, tag: u64) {
        if self.marks.is_empty() {
            self.first = tag;
        }
        self.marks.push_back(Mark::Held);
        self.held += 1;
    }

    /// A message was settled. The first verdict counts.
    pub(super) fn decide(&mut self, tag: u64, verdict: Verdict) {
        if let Some(mark) =
            tag.checked_sub(self.first).and_then(|at| self.marks.get_mut(usize::try_from(at).ok()?))
            && *mark == Mark::Held
        {
            *mark = Mark::Decided(verdict);
            self.decided.push(tag);
            self.held -= 1;
        }
    }

    /// What the broker does not know yet: how many are settled, and whether all of them are only acknowledged.
    pub(super) fn untold(&self) -> (usize, bool) {
        let acknowledged = |tag: &u64| {
            let mark = tag.checked_sub(self.first).and_then(|at| self.marks.get(usize::try_from(at).ok()?));
            mark.is_none_or(|mark| *mark == Mark::Decided(Verdict::Acknowledged))
        };
        (self.decided.len(), self.decided.iter().all(acknowledged))
    }

    /// How many messages readers hold.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What the broker must be told now, in this order.
    pub(super) fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut acknowledged = Vec::new();
        // What is not acknowledged goes first and alone, so that no `AckUpTo` covers it.
        for tag in std::mem::take(&mut self.decided) {
            let mark = &mut self.marks[(tag - self.first) as usize];
            match mark {
                Mark::Decided(Verdict::GivenBack) => frames.push(Frame::Requeue(tag)),
                Mark::Decided(Verdict::Refused) => frames.push(Frame::Refuse(tag)),
                Mark::Decided(Verdict::Acknowledged) => {
                    acknowledged.push(tag);
                    continue;
                }
                Mark::Held | Mark::Told => continue,
            }
            *mark = Mark::Told;
        }
        let mut up_to = None;
        while let Some(mark) = self.marks.front() {
            match mark {
                Mark::Held => break,
                Mark::Decided(_) => up_to = Some(self.first),
                Mark::Told => (),
            }
            self.marks.pop_front();
            self.first += 1;
        }
        frames.extend(up_to.map(Frame::AckUpTo));
        // An older message is still in work: those behind it are told one by one and wait for nothing.
        for tag in acknowledged.into_iter().filter(|tag| self.first <= *tag) {
            self.marks[(tag - self.first) as usize] = Mark::Told;
            frames.push(Frame::Ack(tag));
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame::*, Verdict::*, *};

    fn window(tags: std::ops::RangeInclusive<u64>) -> Window {
        let mut window = Window::default();
        tags.for_each(|tag| window.deliver(tag));
        window
    }

    #[test]
    fn few_frames_tell_the_broker_exactly_what_was_decided() {
        type Case = (&'static [(u64, Verdict)], &'static [Frame]);
        let cases: [Case; 9] = [
            (&[], &[]),
            (&[(1, Acknowledged), (2, Acknowledged), (3, Acknowledged)], &[AckUpTo(3)]),
            (&[(3, Acknowledged), (1, Acknowledged), (2, Acknowledged)], &[AckUpTo(3)]),
            (&[(2, Acknowledged), (3, Acknowledged)], &[Ack(2), Ack(3)]),
            (&[(1, Acknowledged), (3, Acknowledged)], &[AckUpTo(1), Ack(3)]),
            (&[(1, Acknowledged), (2, GivenBack), (3, Acknowledged)], &[Requeue(2), AckUpTo(3)]),
            (&[(1, GivenBack), (2, Refused)], &[Requeue(1), Refuse(2)]),
            (&[(2, Refused), (2, Acknowledged)], &[Refuse(2)]),
            (&[(0, Acknowledged), (9, Acknowledged)], &[]),
        ];
        for (decisions, frames) in cases {
            let mut window = window(1..=4);
            decisions.iter().for_each(|(tag, verdict)| window.decide(*tag, *verdict));
            assert_eq!(window.frames(), frames, "{decisions:?}");
            assert_eq!(window.frames(), [], "told once");
        }
    }

    #[test]
    fn what_is_untold_is_counted_and_what_is_given_back_is_seen() {
        let mut window = window(1..=3);
        assert_eq!(window.untold(), (0, true));
        window.decide(2, Acknowledged);
        assert_eq!(window.untold(), (1, true));
        window.decide(3, GivenBack);
        assert_eq!(window.untold(), (2, false));
        window.frames();
        assert_eq!(window.untold(), (0, true));
    }

    #[test]
    fn what_was_told_alone_is_not_told_again() {
        let mut window = window(1..=3);
        window.decide(2, Acknowledged);
        assert_eq!((window.frames(), window.held()), (vec![Ack(2)], 2));
        window.decide(1, Acknowledged);
        assert_eq!(
            window.frames(),
            [AckUpTo(1)],
            "2 is settled, and must not be named as the last of a range"
        );
        window.decide(3, Acknowledged);
        assert_eq!((window.frames(), window.held()), (vec![AckUpTo(3)], 0));
        window.deliver(4);
        window.decide(4, GivenBack);
        assert_eq!(window.frames(), [Requeue(4)]);
    }
}
