// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why Kconfig did not give what was asked for: the unmet dependencies of a symbol.
//!
//! No full Kconfig: it reads the files that `Kconfig` sources, notes for each symbol on what its
//! definitions depend (its own `depends on`, and every `if`, `menu` and `choice` around it), and evaluates that
//! against a finished `.config`. It explains an outcome that the kernel's own conf has decided.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::fragment::DotConfig;

/// One definition of a symbol. A symbol may have several; one that is met suffices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Definition {
    /// Each must hold: own ones and those around it.
    depends: Vec<Expr>,
    /// Whether a user can set it.
    prompt: bool,
    /// The choice that it is a member of.
    choice: Option<usize>,
}

/// What the Kconfig files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kconfig {
    symbols: BTreeMap<String, Vec<Definition>>,
}

/// Why a symbol has not the value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// No Kconfig file defines it.
    Undefined,
    /// It has no prompt: only `select` or its default set it.
    NoPrompt,
    /// These do not hold, each shown with the values of its symbols.
    Unmet(Vec<String>),
    /// The dependencies hold: something selects it, a range limits it, or another member of its choice won.
    Other {
        /// Members of its choice that are set.
        chosen: Vec<String>,
    },
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blame::Undefined => f.write_str("no Kconfig file of this kernel defines it"),
            Blame::NoPrompt => f.write_str("it has no prompt: only another symbol's `select` can set it"),
            Blame::Unmet(unmet) => write!(f, "unmet: {}", unmet.join(", ")),
            Blame::Other { chosen } if chosen.is_empty() => f.write_str(
                "its dependencies are met: a `select`, a range or a later fragment decides its value",
            ),
            Blame::Other { chosen } => write!(f, "its choice has {} instead", chosen.join(", ")),
        }
    }
}

impl Kconfig {
    /// Reads `Kconfig` of a tree, and what it sources. Files that cannot be read are passed over: this only
    /// explains.
    pub fn read(tree: &Path, srcarch: &str) -> Kconfig {
        let mut reader =
            Reader { tree, srcarch, kconfig: Kconfig::default(), around: Vec::new(), choices: 0 };
        reader.file(Path::new("Kconfig"), 0);
        reader.kconfig
    }

    /// Whether some file defines `symbol`.
    pub fn defines(&self, symbol: &str) -> bool {
        self.symbols.contains_key(symbol)
    }

    /// Why `symbol` is not what was asked for.
    pub fn blame(&self, symbol: &str, config: &DotConfig) -> Blame {
        let Some(definitions) = self.symbols.get(symbol) else { return Blame::Undefined };
        let unmet = |definition: &Definition| -> Vec<String> {
            let conjuncts = definition.depends.iter().flat_map(Expr::conjuncts);
            let mut unmet: Vec<String> = conjuncts
                .filter(|expr| expr.value(config) == Some(Tristate::No))
                .map(|expr| expr.show(config))
                .collect();
            unmet.dedup();
            unmet
        };
        // Of several definitions, the one that is nearest to being met.
        let nearest = definitions.iter().map(|definition| (unmet(definition), definition));
        let Some((unmet, definition)) =
            nearest.min_by_key(|(unmet, definition)| (unmet.len(), !definition.prompt))
        else {
            return Blame::Undefined;
        };
        if !unmet.is_empty() {
            return Blame::Unmet(unmet);
        }
        if !definition.prompt {
            return Blame::NoPrompt;
        }
        let chosen = definition.choice.map_or_else(Vec::new, |choice| {
            let member = |definitions: &Vec<Definition>| definitions.iter().any(|d| d.choice == Some(choice));
            let others =
                self.symbols.iter().filter(|(name, definitions)| *name != symbol && member(definitions));
            others.filter(|(name, _)| config.value(name) == "y").map(|(name, _)| name.clone()).collect()
        });
        Blame::Other { chosen }
    }
}

struct Reader<'a> {
    tree: &'a Path,
    srcarch: &'a str,
    kconfig: Kconfig,
    /// `if`, `menu` and `choice` that are open.
    around: Vec<Around>,
    choices: usize,
}

#[derive(Debug, Default)]
struct Around {
    depends: Vec<Expr>,
    choice: Option<usize>,
}

/// What the attribute lines belong to.
enum Entry {
    None,
    Symbol(String),
    Around,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        // A file that sources itself would never end.
        if depth > 32 {
            return;
        }
        let Ok(bytes) = std::fs::read(self.tree.join(path)) else { return };
        let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
        let mut entry = Entry::None;
        // Lines of a help text are indented deeper than its keyword's own line, or empty.
        let mut help: Option<usize> = None;
        for line in text.lines() {
            let indent = indent(line);
            let line = line.trim();
            if let Some(keyword) = help {
                if line.is_empty() || indent > keyword {
                    continue;
                }
                help = None;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "help" | "---help---" => help = Some(indent.saturating_sub(1)),
                "config" | "menuconfig" => entry = self.symbol(rest),
                "if" => {
                    self.around.push(Around { depends: vec![Expr::parse(rest)], choice: None });
                    entry = Entry::None;
                }
                "menu" => {
                    self.around.push(Around::default());
                    entry = Entry::Around;
                }
                "choice" => {
                    self.choices += 1;
                    self.around.push(Around { depends: vec![], choice: Some(self.choices) });
                    entry = Entry::Around;
                }
                "endif" | "endmenu" | "endchoice" => {
                    self.around.pop();
                    entry = Entry::None;
                }
                "comment" => entry = Entry::None,
                "source" | "osource" | "rsource" => {
                    entry = Entry::None;
                    if let Some(sourced) = self.sourced(word, rest, path) {
                        self.file(&sourced, depth + 1);
                    }
                }
                "depends" => {
                    let expr = Expr::parse(rest.strip_prefix("on").unwrap_or(rest).trim());
                    self.depends(&entry, expr);
                }
                "bool" | "tristate" | "string" | "int" | "hex" | "prompt"
                    if rest.starts_with(['"', '\'']) =>
                {
                    self.prompt(&entry, rest);
                }
                _ => {}
            }
        }
    }

    fn symbol(&mut self, name: &str) -> Entry {
        let mut definition = Definition::default();
        for around in &self.around {
            definition.depends.extend(around.depends.iter().cloned());
            definition.choice = around.choice.or(definition.choice);
        }
        self.kconfig.symbols.entry(name.to_owned()).or_default().push(definition);
        Entry::Symbol(name.to_owned())
    }

    fn depends(&mut self, entry: &Entry, expr: Expr) {
        match entry {
            Entry::Symbol(name) => {
                if let Some(definition) = self.definition(name) {
                    definition.depends.push(expr);
                }
            }
            Entry::Around => {
                if let Some(around) = self.around.last_mut() {
                    around.depends.push(expr);
                }
            }
            Entry::None => {}
        }
    }

    /// `"text" [if EXPR]`: where EXPR does not hold there is no prompt, and a user cannot set the symbol.
    fn prompt(&mut self, entry: &Entry, rest: &str) {
        let Entry::Symbol(name) = entry else { return };
        let quote = &rest[..1];
        let condition = rest[1..].split_once(quote).and_then(|(_, after)| after.trim().strip_prefix("if "));
        let condition = condition.map(Expr::parse);
        if let Some(definition) = self.definition(name) {
            definition.prompt = true;
            definition.depends.extend(condition);
        }
    }

    fn definition(&mut self, name: &str) -> Option<&mut Definition> {
        self.kconfig.symbols.get_mut(name)?.last_mut()
    }

    fn sourced(&self, word: &str, rest: &str, from: &Path) -> Option<PathBuf> {
        let name = rest.trim_matches(['"', '\'']);
        let name = name.replace("$(SRCARCH)", self.srcarch).replace("$SRCARCH", self.srcarch);
        let name = name.replace("$(srctree)/", "");
        if name.contains('$') {
            return None;
        }
        Some(match word {
            "rsource" => from.parent()?.join(name),
            _ => PathBuf::from(name),
        })
    }
}

/// Width of the leading white space; a tab reaches to the next multiple of 8.
fn indent(line: &str) -> usize {
    line.chars()
        .take_while(|c| c.is_whitespace())
        .fold(0, |at, c| if c == '\t' { (at | 7) + 1 } else { at + 1 })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tristate {
    No,
    Module,
    Yes,
}

/// An expression of Kconfig (Documentation/kbuild/kconfig-language.rst).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Symbol(String),
    Literal(String),
    Compare(Box<Expr>, &'static str, Box<Expr>),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// A macro, or something that we do not understand: neither met nor unmet.
    Unknown(String),
}

impl Expr {
    fn parse(text: &str) -> Expr {
        let unknown = || Expr::Unknown(text.to_owned());
        let Some(tokens) = tokens(text) else { return unknown() };
        let mut parser = Parser { tokens: &tokens, at: 0 };
        match parser.or() {
            Some(expr) if parser.at == tokens.len() => expr,
            _ => unknown(),
        }
    }

    fn conjuncts(&self) -> Vec<&Expr> {
        match self {
            Expr::And(a, b) => [a.conjuncts(), b.conjuncts()].concat(),
            other => vec![other],
        }
    }

    /// `None` if it hangs on something unknown.
    fn value(&self, config: &DotConfig) -> Option<Tristate> {
        let known = |text: &str| match text {
            "y" => Tristate::Yes,
            "m" => Tristate::Module,
            _ => Tristate::No,
        };
        Some(match self {
            Expr::Unknown(_) => return None,
            Expr::Literal(text) => known(text),
            Expr::Symbol(name) => known(config.value(name)),
            Expr::Not(expr) => match expr.value(config)? {
                Tristate::No => Tristate::Yes,
                Tristate::Module => Tristate::Module,
                Tristate::Yes => Tristate::No,
            },
            Expr::And(a, b) => match (a.value(config), b.value(config)) {
                (Some(Tristate::No), _) | (_, Some(Tristate::No)) => Tristate::No,
                (a, b) => a?.min(b?),
            },
            Expr::Or(a, b) => match (a.value(config), b.value(config)) {
                (Some(Tristate::Yes), _) | (_, Some(Tristate::Yes)) => Tristate::Yes,
                (a, b) => a?.max(b?),
            },
            Expr::Compare(a, operator, b) => {
                let (a, b) = (a.text(config)?, b.text(config)?);
                let number = |text: &str| text.parse::<i64>().ok();
                let order = match (number(&a), number(&b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => a.cmp(&b),
                };
                let holds = match *operator {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    ">" => order.is_gt(),
                    "<=" => order.is_le(),
                    _ => order.is_ge(),
                };
                if holds { Tristate::Yes } else { Tristate::No }
            }
        })
    }

    fn text(&self, config: &DotConfig) -> Option<String> {
        match self {
            Expr::Symbol(name) => Some(config.value(name).trim_matches('"').to_owned()),
            Expr::Literal(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// With the value of each symbol, as menuconfig shows it: `NET [=y] && !SMP [=y]`.
    fn show(&self, config: &DotConfig) -> String {
        match self {
            Expr::Symbol(name) => format!("{name} [={}]", config.value(name)),
            Expr::Literal(text) | Expr::Unknown(text) => text.clone(),
            Expr::Compare(a, operator, b) => format!("{} {operator} {}", a.show(config), b.show(config)),
            Expr::Not(expr) => match **expr {
                Expr::Or(..) | Expr::And(..) | Expr::Compare(..) => format!("!({})", expr.show(config)),
                _ => format!("!{}", expr.show(config)),
            },
            Expr::And(a, b) => format!("({} && {})", a.show(config), b.show(config)),
            Expr::Or(a, b) => format!("({} || {})", a.show(config), b.show(config)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Macro(String),
    Operator(&'static str),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    const OPERATORS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let length;
        if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            tokens.push(Token::Operator(operator));
            length = operator.len();
        } else if rest.starts_with("$(") {
            let mut depth = 0;
            length = 1 + rest.char_indices().find_map(|(at, c)| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                (c == ')' && depth == 0).then_some(at)
            })?;
            tokens.push(Token::Macro(rest[..length].to_owned()));
        } else if let Some(quote) = rest.chars().next().filter(|c| ['"', '\''].contains(c)) {
            let end = rest[1..].find(quote)?;
            tokens.push(Token::Quoted(rest[1..=end].to_owned()));
            length = end + 2;
        } else {
            length =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c)).unwrap_or(rest.len());
            if length == 0 {
                return None;
            }
            tokens.push(Token::Word(rest[..length].to_owned()));
        }
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, operator: &'static str) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Operator(operator));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Option<Expr> {
        let mut expr = self.and()?;
        while self.take("||") {
            expr = Expr::Or(Box::new(expr), Box::new(self.and()?));
        }
        Some(expr)
    }

    fn and(&mut self) -> Option<Expr> {
        let mut expr = self.compare()?;
        while self.take("&&") {
            expr = Expr::And(Box::new(expr), Box::new(self.compare()?));
        }
        Some(expr)
    }

    fn compare(&mut self) -> Option<Expr> {
        let expr = self.atom()?;
        for operator in ["=", "!=", "<=", ">=", "<", ">"] {
            if self.take(operator) {
                return Some(Expr::Compare(Box::new(expr), operator, Box::new(self.atom()?)));
            }
        }
        Some(expr)
    }

    fn atom(&mut self) -> Option<Expr> {
        if self.take("!") {
            return Some(Expr::Not(Box::new(self.atom()?)));
        }
        if self.take("(") {
            let expr = self.or()?;
            return self.take(")").then_some(expr);
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(match token {
            Token::Word(word) if ["y", "m", "n"].contains(&word.as_str()) => Expr::Literal(word.clone()),
            Token::Word(word)
                if word.bytes().next().is_some_and(|c| c.is_ascii_digit()) && word.parse::<i64>().is_ok() =>
            {
                Expr::Literal(word.clone())
            }
            Token::Word(word) => Expr::Symbol(word.clone()),
            Token::Quoted(text) => Expr::Literal(text.clone()),
            Token::Macro(text) => Expr::Unknown(text.clone()),
            Token::Operator(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = r#"
mainmenu "x"
source "arch/$(SRCARCH)/Kconfig"
menu "Networking"
	depends on NET
config INET
	bool "TCP/IP"
	help
	  config HIDDEN is only a word here

	  depends on nothing
if INET && (A || B != "x")
config TARGET
	tristate "target" if EXPERT
	depends on NETFILTER \
		&& !SMP
endif
endmenu
choice
	prompt "size or speed"
config SIZE
	bool "size"
config SPEED
	bool "speed"
endchoice
config SELECTED
	def_bool n
config MACRO
	bool "m"
	depends on $(cc-option,-mfoo,(x)) && NET
"#;

    fn blame(symbol: &str, config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("arch/x86")).unwrap();
        std::fs::write(dir.path().join("Kconfig"), TOP).unwrap();
        std::fs::write(
            dir.path().join("arch/x86/Kconfig"),
            "config ARCH\n\tbool \"arch\"\n\tdepends on !NET\n",
        )
        .unwrap();
        let kconfig = Kconfig::read(dir.path(), "x86");
        kconfig.blame(symbol, &DotConfig::parse(config)).to_string()
    }

    #[test]
    fn unmet_dependencies_are_named_with_their_values() {
        let config = "CONFIG_NET=y\nCONFIG_INET=y\nCONFIG_SMP=y\nCONFIG_B=\"x\"\n";
        let expected = "unmet: (A [=n] || B [=\"x\"] != x), EXPERT [=n], NETFILTER [=n], !SMP [=y]";
        assert_eq!(blame("TARGET", config), expected);
        assert_eq!(blame("INET", ""), "unmet: NET [=n]");
        assert_eq!(blame("ARCH", "CONFIG_NET=y\n"), "unmet: !NET [=y]");
    }

    #[test]
    fn other_reasons_have_their_words() {
        assert!(blame("HIDDEN", "").contains("no Kconfig file"));
        assert!(blame("SELECTED", "").contains("no prompt"));
        assert_eq!(blame("SPEED", "CONFIG_SIZE=y\n"), "its choice has SIZE instead");
        assert_eq!(blame("MACRO", ""), "unmet: NET [=n]");
        assert!(blame("MACRO", "CONFIG_NET=y\n").contains("dependencies are met"));
    }

    #[test]
    fn expressions_have_the_precedence_of_kconfig() {
        let value =
            |text: &str| Expr::parse(text).value(&DotConfig::parse("CONFIG_A=y\nCONFIG_M=m\nCONFIG_N=5\n"));
        assert_eq!(value("A || B && C"), Some(Tristate::Yes));
        assert_eq!(value("(A || B) && C"), Some(Tristate::No));
        assert_eq!(value("M && A"), Some(Tristate::Module));
        assert_eq!(value("N >= 5 && N < 10"), Some(Tristate::Yes));
        assert_eq!(value("A = y && B = n"), Some(Tristate::Yes));
        assert_eq!(value("$(x) || A"), Some(Tristate::Yes));
        assert_eq!(value("$(x) && A"), None);
        assert_eq!(value("A &&"), None);
    }

    proptest::proptest! {
        #[test]
        fn expressions_never_panic(text in "[A-C!&|()=<>$\" ]{0,40}") {
            let _ = Expr::parse(&text).show(&DotConfig::default());
        }
    }
}
