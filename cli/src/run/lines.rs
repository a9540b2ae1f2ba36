//! The input, line by line, in bounded memory.

use std::fmt;
use std::io::{self, BufRead, Read};

/// The mark with which some editors begin a file.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line of input.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Its bytes, or why they are not here.
    pub(crate) text: Result<Vec<u8>, TooLong>,
    /// Bytes of the input up to its end.
    pub(crate) end: u64,
}

/// A line beyond the limit. Its bytes were skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooLong {
    pub(crate) limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is longer than {} bytes: raise --payload-bytes", self.limit)
    }
}

/// Reads lines; a last one without an end counts.
pub(crate) struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    end: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, number: 0, end: 0 }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let room = (self.limit as u64).saturating_add(1);
        let mut length = self.input.by_ref().take(room).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(None);
        }
        let mut text = if text.pop_if(|last| *last == b'\n').is_some() || text.len() <= self.limit {
            Ok(text)
        } else {
            length += self.input.skip_until(b'\n')?;
            Err(TooLong { limit: self.limit })
        };
        if let (0, Ok(text)) = (self.number, &mut text)
            && text.starts_with(BYTE_ORDER_MARK)
        {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        self.number += 1;
        self.end += length as u64;
        Ok(Some(Line { number: self.number, text, end: self.end }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        Lines::new(input, limit).map(Result::unwrap).collect()
    }

    fn line(number: u64, text: &[u8], end: u64) -> Line {
        Line { number, text: Ok(text.to_vec()), end }
    }

    #[test]
    fn every_line_counts_blank_and_unended_ones_too() {
        assert_eq!(
            lines(b"a\n\n b\r\nc", 10),
            [line(1, b"a", 2), line(2, b"", 3), line(3, b" b\r", 7), line(4, b"c", 8)]
        );
        assert_eq!(lines(b"", 10), []);
        assert_eq!(lines(b"\n", 10), [line(1, b"", 1)]);
    }

    #[test]
    fn a_line_of_the_limit_fits_and_a_longer_one_is_skipped() {
        let too_long = Line { number: 2, text: Err(TooLong { limit: 4 }), end: 12 };
        assert_eq!(
            lines(b"1234\n123456\n12", 4),
            [line(1, b"1234", 5), too_long, line(3, b"12", 14)]
        );
        assert_eq!(lines(b"1234", 4), [line(1, b"1234", 4)]);
        assert_eq!(lines(b"12345", 4)[0].text, Err(TooLong { limit: 4 }));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(lines(b"\xEF\xBB\xBF{}\n", 10), [line(1, b"{}", 6)]);
    }
}
