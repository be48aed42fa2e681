// SPDX-License-Identifier: MIT OR Apache-2.0
//! How kbuild has made an object: the command that it keeps in `.NAME.cmd` (scripts/Kbuild.include).

use std::path::{Path, PathBuf};

/// A compiler's command line, and what went into the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub argv: Vec<String>,
    /// Relative to the build folder, or absolute.
    pub inputs: Vec<PathBuf>,
}

/// Reads the text of a `.cmd` file. Nothing if it is no plain call of a C compiler.
pub fn parse(text: &str) -> Option<Command> {
    let line = text.lines().next()?;
    // `savedcmd_` since 6.2.
    let (name, command) = line.split_once(" := ")?;
    if !name.starts_with("savedcmd_") && !name.starts_with("cmd_") {
        return None;
    }
    let mut argv = words(&command.replace("$(pound)", "#").replace("$$", "$"))?;
    if argv.first().is_some_and(|program| base(program) == "ccache") {
        argv.remove(0);
    }
    let program = base(argv.first()?);
    let is_compiler = ["gcc", "cc", "clang"].iter().any(|name| {
        program == *name
            || program.ends_with(&format!("-{name}"))
            || program.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    });
    if !is_compiler || !argv.iter().any(|word| word == "-c") {
        return None;
    }
    let inputs = text.lines().skip(1).filter_map(|line| {
        let word = line.trim().trim_end_matches('\\').trim();
        let word = word.split_once(" := ").map_or(word, |(_, source)| source.trim());
        let is_path = !word.is_empty() && !word.contains(['$', ' ', ':']);
        is_path.then(|| PathBuf::from(word))
    });
    Some(Command { inputs: inputs.collect(), argv })
}

impl Command {
    /// The same with debug information, into another file, and leaving nothing else behind.
    pub fn with_debug_information(&self, output: &Path) -> Option<Vec<String>> {
        let mut argv = Vec::with_capacity(self.argv.len() + 3);
        let mut words = self.argv.iter();
        let mut named = false;
        while let Some(word) = words.next() {
            if word.starts_with("-Wp,-M") {
                // The list of inputs, which would be written beside the object.
                continue;
            }
            if word == "-o" {
                words.next()?;
                argv.extend([word.clone(), output.to_str()?.to_owned()]);
                named = true;
                continue;
            }
            argv.push(word.clone());
        }
        argv.extend(["-g", "-fno-var-tracking", "-w"].map(str::to_owned));
        named.then_some(argv)
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The words of the first simple command, as a shell takes them. Nothing if it takes more than quotes to read it.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        '$' | '`' => return None,
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            ';' => break,
            '&' if chars.peek() == Some(&'&') => break,
            '$' | '`' | '|' | '&' | '<' | '>' | '(' | ')' | '*' | '?' => return None,
            space if space.is_whitespace() => words.extend(word.take()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "savedcmd_kernel/audit.o := ccache gcc -Wp,-MMD,kernel/.audit.o.d -I../include -DKBUILD_MODFILE='\"kernel/audit\"' \
        -D\"KBUILD_STR(s)=$(pound)s\" -c -o kernel/audit.o ../kernel/audit.c  ; ./tools/objtool/objtool --hacks kernel/audit.o\n\n\
        source_kernel/audit.o := ../kernel/audit.c\n\ndeps_kernel/audit.o := \\\n    $(wildcard include/config/AUDIT) \\\n  \
        ../include/linux/audit.h \\\n  include/generated/autoconf.h \\\n\nkernel/audit.o: $(deps_kernel/audit.o)\n";

    #[test]
    fn a_saved_command_is_read_as_a_shell_does() {
        let command = parse(SAVED).unwrap();
        let expected = "gcc -Wp,-MMD,kernel/.audit.o.d -I../include -DKBUILD_MODFILE=\"kernel/audit\" -DKBUILD_STR(s)=#s -c -o \
                        kernel/audit.o ../kernel/audit.c";
        assert_eq!(command.argv.join(" "), expected);
        let inputs: Vec<_> = command.inputs.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(inputs, ["../kernel/audit.c", "../include/linux/audit.h", "include/generated/autoconf.h"]);
    }

    #[test]
    fn the_other_command_writes_nothing_into_the_tree() {
        let argv = parse(SAVED).unwrap().with_debug_information(Path::new("/t/x.o")).unwrap().join(" ");
        assert!(argv.contains("-o /t/x.o ../kernel/audit.c -g") && !argv.contains("-MMD"), "{argv}");
        assert!(!argv.contains("kernel/audit.o") && !argv.contains(".audit.o.d"), "{argv}");
    }

    #[test]
    fn what_is_no_call_of_a_compiler_is_left_alone() {
        for (from, to) in [
            ("ccache gcc", "ld"),
            (" -c ", " "),
            ("ccache gcc", "gcc `x`"),
            ("ccache gcc", "gcc $(x)"),
            ("savedcmd_kernel", "deps_kernel"),
            ("-I../include", "'"),
        ] {
            assert_eq!(parse(&SAVED.replace(from, to)), None, "{to}");
        }
        for compiler in ["gcc", "/usr/bin/clang-21", "x86_64-linux-gnu-gcc", "gcc-12"] {
            assert!(parse(&SAVED.replace("ccache gcc", compiler)).is_some(), "{compiler}");
        }
    }
}
