use std::collections::VecDeque;

use tokio::time::Instant;

use super::AssemblerConfig;

/// Puts messages together that came in several frames, in any order and mixed with others.
#[derive(Debug)]
pub(super) struct Assembler {
    config: AssemblerConfig,
    /// Oldest first.
    incomplete: VecDeque<Incomplete>,
    bytes: usize,
}

#[derive(Debug)]
struct Incomplete {
    message_id: String,
    since: Instant,
    parts: Vec<Option<Vec<u8>>>,
}

impl Incomplete {
    fn bytes(&self) -> usize {
        self.parts.iter().flatten().map(Vec::len).sum()
    }
}

/// A part that fits nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartError {
    #[error("part {seq} of a message of {sum} parts")]
    OutOfRange { seq: usize, sum: usize },
    #[error("a message of {sum} parts, more than the {max} allowed")]
    TooManyParts { sum: usize, max: usize },
    #[error("a split message without an id")]
    NoMessageId,
    #[error("parts of one message disagree on their number")]
    Inconsistent,
    #[error("a split message longer than the {max} bytes allowed")]
    TooLong { max: usize },
}

impl Assembler {
    pub(super) const fn new(config: AssemblerConfig) -> Self {
        Self { config, incomplete: VecDeque::new(), bytes: 0 }
    }

    /// Takes one part; returns the whole payload when it was the last one missing.
    pub(super) fn add(
        &mut self,
        message_id: &str,
        sum: usize,
        seq: usize,
        payload: Vec<u8>,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, PartError> {
        self.forget_old(now);
        if sum <= 1 {
            return Ok(Some(payload));
        }
        if message_id.is_empty() {
            return Err(PartError::NoMessageId);
        }
        if seq >= sum {
            return Err(PartError::OutOfRange { seq, sum });
        }
        if sum > self.config.max_parts {
            return Err(PartError::TooManyParts { sum, max: self.config.max_parts });
        }

        // Taken out and pushed back in its place by age, so that making room below can drop any other but this one.
        let known =
            self.incomplete.iter().position(|m| m.message_id == message_id).and_then(|i| self.remove(i));
        let mut message = known.unwrap_or_else(|| Incomplete {
            message_id: message_id.to_owned(),
            since: now,
            parts: vec![None; sum],
        });
        if message.parts.len() != sum {
            return Err(PartError::Inconsistent);
        }
        message.parts[seq] = Some(payload);
        if message.parts.iter().all(Option::is_some) {
            return Ok(Some(message.parts.into_iter().flatten().flatten().collect()));
        }
        self.keep(message)?;
        Ok(None)
    }

    fn keep(&mut self, message: Incomplete) -> Result<(), PartError> {
        let bytes = message.bytes();
        if bytes > self.config.max_bytes {
            return Err(PartError::TooLong { max: self.config.max_bytes });
        }
        while self.incomplete.len() >= self.config.max_messages || self.bytes + bytes > self.config.max_bytes
        {
            let Some(oldest) = self.remove(0) else { break };
            tracing::warn!(
                message_id = oldest.message_id,
                "too many split messages are incomplete: forgot the oldest"
            );
        }
        self.bytes += bytes;
        let place = self.incomplete.partition_point(|m| m.since <= message.since);
        self.incomplete.insert(place, message);
        Ok(())
    }

    fn forget_old(&mut self, now: Instant) {
        while self.incomplete.front().is_some_and(|m| now.duration_since(m.since) > self.config.max_age) {
            if let Some(old) = self.remove(0) {
                let missing = old.parts.iter().filter(|p| p.is_none()).count();
                tracing::warn!(
                    message_id = old.message_id,
                    missing,
                    "a split message stayed incomplete: forgot it"
                );
            }
        }
    }

    fn remove(&mut self, index: usize) -> Option<Incomplete> {
        let removed = self.incomplete.remove(index)?;
        self.bytes -= removed.bytes();
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn assembler(max_messages: usize, max_bytes: usize) -> Assembler {
        Assembler::new(AssemblerConfig { max_messages, max_bytes, ..AssemblerConfig::default() })
    }

    #[test]
    fn a_message_in_one_frame_passes_through() {
        let now = Instant::now();
        assert_eq!(assembler(1, 1).add("", 0, 9, b"abc".to_vec(), now), Ok(Some(b"abc".to_vec())));
        assert_eq!(assembler(1, 1).add("", 1, 0, b"abc".to_vec(), now), Ok(Some(b"abc".to_vec())));
    }

    #[test]
    fn shuffled_interleaved_and_repeated_parts_come_together() {
        let now = Instant::now();
        let mut it = assembler(10, 100);
        assert_eq!(it.add("a", 3, 2, b"3".to_vec(), now), Ok(None));
        assert_eq!(it.add("b", 2, 1, b"B".to_vec(), now), Ok(None));
        assert_eq!(it.add("a", 3, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(it.add("a", 3, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(it.add("b", 2, 0, b"A".to_vec(), now), Ok(Some(b"AB".to_vec())));
        assert_eq!(it.add("a", 3, 1, b"2".to_vec(), now), Ok(Some(b"123".to_vec())));
        assert_eq!((it.bytes, it.incomplete.len()), (0, 0));
    }

    #[test]
    fn an_incomplete_message_is_forgotten_after_five_seconds() {
        let now = Instant::now();
        let mut it = assembler(10, 100);
        assert_eq!(it.add("a", 2, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(it.add("a", 2, 1, b"2".to_vec(), now + Duration::from_millis(5001)), Ok(None));
        assert_eq!(it.bytes, 1);
        assert_eq!(it.add("a", 2, 0, b"1".to_vec(), now + Duration::from_secs(10)), Ok(Some(b"12".to_vec())));
    }

    #[test]
    fn number_and_bytes_are_bounded_and_the_oldest_goes_first() {
        let now = Instant::now();
        let mut it = assembler(2, 10);
        for (i, id) in ["a", "b", "c"].iter().enumerate() {
            let at = now + Duration::from_millis(u64::try_from(i).unwrap());
            assert_eq!(it.add(id, 2, 0, b"1".to_vec(), at), Ok(None));
        }
        assert_eq!(it.incomplete.iter().map(|m| m.message_id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(it.add("b", 3, 1, b"x".to_vec(), now), Err(PartError::Inconsistent));
        assert_eq!(it.add("d", 2, 0, vec![0; 10], now), Ok(None));
        assert_eq!((it.incomplete.len(), it.bytes), (1, 10));
        assert_eq!(it.add("e", 2, 0, vec![0; 11], now), Err(PartError::TooLong { max: 10 }));
        assert_eq!(it.incomplete.len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let now = Instant::now();
        let mut it = assembler(2, 10);
        assert_eq!(it.add("", 2, 0, vec![], now), Err(PartError::NoMessageId));
        assert_eq!(it.add("a", 2, 2, vec![], now), Err(PartError::OutOfRange { seq: 2, sum: 2 }));
        assert!(matches!(it.add("a", usize::MAX, 0, vec![], now), Err(PartError::TooManyParts { .. })));
        assert_eq!(it.bytes, 0);
    }
}
