// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign text made safe for one line of a report.

/// Replaces control characters (and so newlines and terminal escapes) by `\xNN`.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\t' {
            out.push(' ');
        } else if character.is_control() {
            out.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_newline_nor_a_terminal_escape_gets_through() {
        assert_eq!(one_line("a\nok 2 forged\u{1b}[2J"), "a\\x0aok 2 forged\\x1b[2J");
    }
}
