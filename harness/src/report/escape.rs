// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign text made safe for a report: names of patches, subjects, what compilers, guests and consoles say.
//!
//! What a terminal acts on (C0 and C1 controls, DEL), what turns the direction of text or is not seen, and what
//! ends a line comes out as `\xNN` or `\u{N}`. So does what GitHub's runner takes for a command in a log:
//! `::error` where a line begins, `##[error]` anywhere in it.

use std::fmt::Write as _;

/// Whether a character does something to a reader's screen other than to stand there.
#[must_use]
pub fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Bidirectional marks, embeddings, overrides and isolates; line and paragraph separators; zero width.
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// One line of foreign text, whatever is in it. A tab becomes a blank.
#[must_use]
pub fn one_line(text: &str) -> String {
    escape(text, ' ')
}

fn escape(text: &str, tab: char) -> String {
    let mut out = String::with_capacity(text.len());
    let commands = text.trim_start().starts_with("::").then(|| text.len() - text.trim_start().len());
    for (at, character) in text.char_indices() {
        let command = commands == Some(at) || character == '#' && text[at..].starts_with("##[");
        // Writing to a String cannot fail.
        let _ = match character {
            '\t' => out.write_char(tab),
            _ if command || is_active(character) && u32::from(character) <= 0xff => {
                write!(out, "\\x{:02x}", u32::from(character))
            }
            _ if is_active(character) => write!(out, "\\u{{{:x}}}", u32::from(character)),
            _ => out.write_char(character),
        };
    }
    out
}

/// Text with foreign words in it whose lines stay lines, each of them as [`one_line`]; tabs stay, too.
#[must_use]
pub fn lines(text: &str) -> String {
    let line = |line: &str| escape(line.strip_suffix('\r').unwrap_or(line), '\t');
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// JSON of anything: the same value, with what a reader's screen or GitHub's runner would act on as `\uNNNN`. Such
/// characters stand only in its strings, where serde_json escapes those below U+0020 alone.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let command = character == '#' && text[at..].starts_with("##[");
        if command || is_active(character) && !matches!(character, '\n' | '\t' | '\r') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// A line that git has coloured: as [`one_line`], but for colours.
#[must_use]
pub fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, from) = rest.split_at(at);
        let parameters = &from[2..];
        let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(parameters.len());
        // 8 hides text.
        let harmless = parameters[end..].starts_with('m')
            && parameters[..end].split(';').all(|code| code.trim_start_matches('0') != "8");
        let taken = if harmless { end + 3 } else { 2 };
        out.push_str(&one_line(before));
        out.push_str(&if harmless { from[..taken].to_owned() } else { one_line(&from[..taken]) });
        rest = &from[taken..];
    }
    out.push_str(&one_line(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_newline_nor_a_terminal_escape_gets_through() {
        assert_eq!(one_line("a\nok 2 forged\u{1b}[2J"), "a\\x0aok 2 forged\\x1b[2J");
        assert_eq!(one_line("a\u{9b}2J\u{7f}\u{202e}b\u{2028}c"), "a\\x9b2J\\x7f\\u{202e}b\\u{2028}c");
        assert_eq!(one_line("Größe\t→ 🦀"), "Größe → 🦀");
    }

    #[test]
    fn a_log_of_github_is_given_no_commands() {
        assert_eq!(one_line("::error file=x::y"), "\\x3a:error file=x::y");
        assert_eq!(one_line(" \t::add-mask::y"), "  \\x3a:add-mask::y");
        assert_eq!(one_line("a::b ##[error]c ###[group]d"), "a::b \\x23#[error]c #\\x23#[group]d");
        assert_eq!(lines("a\n\t::b\r\nc\rd"), "a\n\t\\x3a:b\nc\\x0dd");
    }

    #[test]
    fn colours_stay_and_nothing_else() {
        assert_eq!(coloured("\u{1b}[1;32m+a\u{1b}[m \u{1b}[2J"), "\u{1b}[1;32m+a\u{1b}[m \\x1b[2J");
        assert_eq!(coloured("\u{1b}[0;08mhidden\u{1b}]0;title\u{7}"), "\\x1b[0;08mhidden\\x1b]0;title\\x07");
        assert_eq!(coloured("\u{1b}["), "\\x1b[");
    }
}
