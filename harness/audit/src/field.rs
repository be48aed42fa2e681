// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields on demand: `key=value` pairs of a record's body, borrowed, in order.
//!
//! Values come bare (`pid=7`), quoted (`comm="init"`, and the text of AUDIT_USER in single quotes) or as hex of
//! an untrusted string. Which of bare and hex a value is cannot be told from the bytes
//! (`a1=20` is a number, `proctitle=20` a string), so the caller who knows the field decides.

use std::borrow::Cow;

use crate::record::decimal;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub key: &'a [u8],
    pub value: Value<'a>,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Bare(&'a [u8]),
    /// Without its quotes.
    Quoted(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes, without quotes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bare(bytes) | Self::Quoted(bytes) => bytes,
        }
    }

    /// A bare decimal number.
    #[must_use]
    pub fn decimal(self) -> Option<u64> {
        match self {
            Self::Bare(bytes) => decimal(bytes),
            Self::Quoted(_) => None,
        }
    }

    /// A bare hexadecimal number without prefix, as `a0=` has it.
    #[must_use]
    pub fn hexadecimal(self) -> Option<u64> {
        let Self::Bare(bytes) = self else { return None };
        if bytes.is_empty() || bytes.len() > 16 {
            return None;
        }
        bytes.iter().try_fold(0, |number, digit| Some(number << 4 | u64::from(nibble(*digit)?)))
    }

    /// An untrusted string: quoted as it is, or bare hex decoded. A bare value that is no hex stays.
    #[must_use]
    pub fn decoded(self) -> Cow<'a, [u8]> {
        match self {
            Self::Quoted(bytes) => Cow::Borrowed(bytes),
            Self::Bare(bytes) => {
                if bytes.is_empty() || bytes.len() % 2 != 0 {
                    return Cow::Borrowed(bytes);
                }
                let pairs = bytes.chunks_exact(2);
                match pairs.map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect() {
                    Some(decoded) => Cow::Owned(decoded),
                    None => Cow::Borrowed(bytes),
                }
            }
        }
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The fields of a body. Words without `=` are passed over.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let start = self.rest.iter().position(|byte| *byte != b' ')?;
            let rest = &self.rest[start..];
            let end = memchr::memchr2(b'=', b' ', rest).unwrap_or(rest.len());
            if rest.get(end) != Some(&b'=') {
                self.rest = &rest[end..];
                continue;
            }
            let (key, value) = (&rest[..end], &rest[end + 1..]);
            let (value, rest) = match value.first() {
                Some(quote @ (b'"' | b'\'')) => match memchr::memchr(*quote, &value[1..]) {
                    Some(close) => (Value::Quoted(&value[1..=close]), &value[close + 2..]),
                    // An open quote: the rest of the record is the value.
                    None => (Value::Quoted(&value[1..]), &[][..]),
                },
                _ => {
                    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
                    (Value::Bare(&value[..end]), &value[end..])
                }
            };
            self.rest = rest;
            return Some(Field { key, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(body: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Fields::new(body).map(|field| (text(field.key), text(&field.value.decoded()))).collect()
    }

    #[test]
    fn bare_quoted_and_hex_values_are_told_apart() {
        let pairs = list(b"pid=7 comm=\"a b\" proctitle=2F696E6974 msg='op=x res=1' key=(null)");
        let expected =
            [("pid", "7"), ("comm", "a b"), ("proctitle", "/init"), ("msg", "op=x res=1"), ("key", "(null)")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn words_and_open_quotes_do_no_harm() {
        assert_eq!(list(b"lonely  pid=7 x"), [("pid".to_owned(), "7".to_owned())]);
        assert_eq!(list(b"name=\"open a=1"), [("name".to_owned(), "open a=1".to_owned())]);
        assert_eq!(list(b"="), [(String::new(), String::new())]);
        assert_eq!(list(b"a="), [("a".to_owned(), String::new())]);
    }

    #[test]
    fn numbers_are_whole_or_nothing() {
        assert_eq!(Value::Bare(b"6e737472").hexadecimal(), Some(0x6e73_7472));
        assert_eq!(Value::Bare(b"0x10").hexadecimal(), None);
        assert_eq!(Value::Bare(b"12x").decimal(), None);
        assert_eq!(Value::Quoted(b"12").decimal(), None);
        assert_eq!(Value::Bare(b"18446744073709551616").decimal(), None);
    }
}
