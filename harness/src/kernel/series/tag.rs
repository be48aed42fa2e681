// SPDX-License-Identifier: MIT OR Apache-2.0
//! The subject of a patch mail: `Re: [PATCH RFC net-next v3 4/9] title`.

/// What a subject says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// `Re:` or the like stands first.
    pub reply: bool,
    /// Of the series; 1 if it says none.
    pub version: u32,
    /// Number and total.
    pub counter: Option<(u32, u32)>,
    /// Other words of the brackets, as they stand: `RFC`, `net-next`, `6.12`.
    pub prefixes: Vec<String>,
    /// Without prefixes.
    pub title: String,
}

impl Tag {
    /// Reads a decoded and unfolded subject.
    pub fn parse(subject: &str) -> Tag {
        let mut tag =
            Tag { reply: false, version: 1, counter: None, prefixes: Vec::new(), title: String::new() };
        let mut rest = subject.trim_start();
        while let Some(after) = after_reply(rest) {
            tag.reply = true;
            rest = after.trim_start();
        }
        while let Some((words, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            words.split([' ', '\t', ',']).filter(|word| !word.is_empty()).for_each(|word| tag.word(word));
            rest = after.trim_start();
        }
        tag.title = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        tag
    }

    fn word(&mut self, word: &str) {
        let counter = word.split_once('/').and_then(|(n, m)| Some((number(n)?, number(m)?)));
        // `PATCHv2` and `RFCv2` are one word; b4 writes `v1->v2` for a series that it completed itself.
        let upper = word.to_ascii_uppercase();
        let stem = ["PATCH", "RFC", ""].into_iter().find(|stem| upper.starts_with(stem)).unwrap_or_default();
        let last = word.rsplit("->").next().unwrap_or(word);
        let last = if last.len() == word.len() { &word[stem.len()..] } else { last };
        let version = last.strip_prefix(['v', 'V']).and_then(number);
        match (counter, version) {
            (Some(counter), _) => {
                // A title may have brackets of its own: the first counter is the mail's.
                self.counter.get_or_insert(counter);
            }
            (None, Some(version)) => self.version = version,
            (None, None) if upper == "PATCH" => {}
            (None, None) => self.prefixes.push(word.to_owned()),
        }
        if version.is_some() && stem == "RFC" {
            self.prefixes.push("RFC".to_owned());
        }
    }
}

fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|c| c.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn after_reply(text: &str) -> Option<&str> {
    let (word, rest) = text.split_once(':')?;
    let word = word.split('[').next().unwrap_or_default().trim_end();
    ["re", "aw", "sv", "vs", "antw", "fwd", "fw"]
        .iter()
        .any(|re| word.eq_ignore_ascii_case(re))
        .then_some(rest)
}

/// `4, 6-7` of sorted numbers.
pub(super) fn ranges(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, end)) if number.checked_sub(1) == Some(*end) => *end = number,
            _ => spans.push((number, number)),
        }
    }
    span_words(&spans)
}

fn span_words(spans: &[(u32, u32)]) -> String {
    let words = spans.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(", ")
}

/// The numbers of `1..=total` that are not among the sorted `there`, in words; a total may be any number.
pub(super) fn missing(there: &[u32], total: u32) -> Option<String> {
    let mut spans = Vec::new();
    let mut next = Some(1);
    for &number in there {
        if let Some(first) = next
            && number > first
            && first <= total
        {
            spans.push((first, (number - 1).min(total)));
        }
        next = number.checked_add(1);
    }
    if let Some(first) = next
        && first <= total
    {
        spans.push((first, total));
    }
    (!spans.is_empty()).then(|| span_words(&spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_way_to_write_a_prefix_is_understood() {
        for (subject, version, counter, prefixes, title) in [
            ("[PATCH] audit: x", 1, None, "", "audit: x"),
            ("[PATCH v3 4/9] audit: x", 3, Some((4, 9)), "", "audit: x"),
            ("[RFC PATCH net-next v2 02/11] x", 2, Some((2, 11)), "RFC net-next", "x"),
            ("[PATCHv2 RFC 1/2] x", 2, Some((1, 2)), "RFC", "x"),
            ("[RFCv4 0/2] x", 4, Some((0, 2)), "RFC", "x"),
            ("[RFC][PATCH V2,1/2]  folded   title", 2, Some((1, 2)), "RFC", "folded title"),
            ("[PATCH 6.12 034/211] x", 1, Some((34, 211)), "6.12", "x"),
            ("[PATCH v1->v2 1/1] x", 2, Some((1, 1)), "", "x"),
            ("[linux-audit] [PATCH 1/2] [5/7] x [y]", 1, Some((1, 2)), "linux-audit", "x [y]"),
            ("[PATCH 99999999999/2] x", 1, None, "99999999999/2", "x"),
            ("no prefix: at all", 1, None, "", "no prefix: at all"),
        ] {
            let tag = Tag::parse(subject);
            let seen = (tag.version, tag.counter, tag.prefixes.join(" "), tag.title.as_str());
            assert_eq!(seen, (version, counter, prefixes.to_owned(), title), "{subject}");
            assert!(!tag.reply, "{subject}");
        }
    }

    #[test]
    fn a_reply_is_known_by_its_first_word() {
        for subject in ["Re: [PATCH 1/2] x", "RE: re: x", "AW: [PATCH] x", "Re[2]: x", "Fwd: [PATCH] x"] {
            assert!(Tag::parse(subject).reply, "{subject}");
        }
        assert_eq!(Tag::parse("Re: [PATCH v2 1/2] x").counter, Some((1, 2)));
        assert!(!Tag::parse("[PATCH] Re: x").reply);
    }

    #[test]
    fn missing_numbers_are_named_in_ranges() {
        assert_eq!(missing(&[1, 2, 3], 3), None);
        assert_eq!(missing(&[1, 3, 6], 7).unwrap(), "2, 4-5, 7");
        assert_eq!(missing(&[], u32::MAX).unwrap(), "1-4294967295");
        assert_eq!(ranges([1, 2, 4]), "1-2, 4");
    }
}
