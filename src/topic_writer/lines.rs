//! Bytes cut into what becomes records: pure functions of the bytes and the longest value there may be.
//!
//! The invariant they keep: the values follow each other in the bytes, nothing lies between them but
//! line ends, and each says up to where the bytes are taken once it was sent.

use std::io::BufRead;

/// A value, and up to where the bytes are taken once it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) value: &'a [u8],
    pub(super) end: usize,
}

/// Where the first line of `bytes` ends, counted with its `\n`, if it does.
#[inline]
pub(super) fn first_line_end(bytes: &[u8]) -> Option<usize> {
    // Searching for a byte is this fast nowhere else in the standard library.
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').ok()?;
    bytes.get(..length)?.ends_with(b"\n").then_some(length)
}

/// Where the last whole line of `bytes` ends, counted with its `\n`; 0 if there is none.
#[inline]
pub(super) fn last_line_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// A line without its end.
#[inline]
pub(super) fn content(line: &[u8]) -> &[u8] {
    let Some(line) = line.strip_suffix(b"\n") else { return line };
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Bytes without lines, cut where they are longer than `longest`.
pub(super) fn cut(bytes: &[u8], longest: usize) -> impl Iterator<Item = Piece<'_>> {
    let mut end = 0;
    bytes.chunks(longest.max(1)).map(move |value| {
        end += value.len();
        Piece { value, end }
    })
}

/// The lines of bytes that end with a line end, cut where one is longer than `longest`.
#[derive(Debug)]
pub(super) struct WholeLines<'a> {
    bytes: &'a [u8],
    longest: usize,
    /// How much was given out.
    at: usize,
    /// What is left of the content of the current line, and where that line ends.
    line: Option<(&'a [u8], usize)>,
}

impl<'a> WholeLines<'a> {
    pub(super) fn new(bytes: &'a [u8], longest: usize) -> Self {
        Self { bytes, longest: longest.max(1), at: 0, line: None }
    }
}

impl<'a> Iterator for WholeLines<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let (left, line_end) = if let Some(line) = self.line.take() {
            line
        } else {
            let rest = self.bytes.get(self.at..)?;
            let length = first_line_end(rest)?;
            (content(rest.get(..length)?), self.at + length)
        };
        let (value, left) = left.split_at(left.len().min(self.longest));
        if left.is_empty() {
            self.at = line_end;
        } else {
            self.at += value.len();
            self.line = Some((left, line_end));
        }
        Some(Piece { value, end: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(bytes: &[u8], longest: usize) -> Vec<(&[u8], usize)> {
        WholeLines::new(bytes, longest).map(|piece| (piece.value, piece.end)).collect()
    }

    #[test]
    fn a_line_loses_one_line_end_and_nothing_else() {
        assert_eq!(content(b"a\r\n"), b"a");
        assert_eq!(content(b"a\n"), b"a");
        assert_eq!(content(b"a\r\r\n"), b"a\r");
        assert_eq!(content(b"a\r"), b"a\r");
        assert_eq!(content(b"\n"), b"");
    }

    #[test]
    fn each_piece_says_up_to_where_the_bytes_are_taken() {
        assert_eq!(values(b"a\r\n\nbc\n", 9), [(&b"a"[..], 3), (b"", 4), (b"bc", 7)]);
        assert_eq!(values(b"abcde\r\nf\n", 2), [(&b"ab"[..], 2), (b"cd", 4), (b"e", 7), (b"f", 9)]);
        assert_eq!(values(b"abcd\r\n", 2), [(&b"ab"[..], 2), (b"cd", 6)]);
        assert_eq!(values(b"", 2), []);
    }

    #[test]
    fn a_line_without_its_end_is_not_whole() {
        assert_eq!(values(b"a\nb", 9), [(&b"a"[..], 2)]);
        assert_eq!(first_line_end(b"ab"), None);
        assert_eq!(last_line_end(b"ab"), 0);
        assert_eq!(last_line_end(b"a\nb\nc"), 4);
    }

    #[test]
    fn what_has_no_lines_is_cut_where_it_is_too_long() {
        let pieces: Vec<_> = cut(b"abcde", 2).map(|piece| (piece.value, piece.end)).collect();
        assert_eq!(pieces, [(&b"ab"[..], 2), (b"cd", 4), (b"e", 5)]);
    }
}
