// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios from TOML: those that nstrail brings, and files of the user's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nstrail_wire::scenario::Scenario;
use thiserror::Error;

use super::{
    every,
    objection::{self, Objection},
};

/// Names and texts of the scenarios that nstrail brings, in the order in which `run` takes them.
pub const EMBEDDED: [(&str, &str); 34] = [
    ("smoke", include_str!("scenarios/smoke.toml")),
    ("nest", include_str!("scenarios/nest.toml")),
    ("quiet", include_str!("scenarios/quiet.toml")),
    ("churn", include_str!("scenarios/churn.toml")),
    ("flags", include_str!("scenarios/flags.toml")),
    ("kept", include_str!("scenarios/kept.toml")),
    ("deep-tree", include_str!("scenarios/deep-tree.toml")),
    ("join-web", include_str!("scenarios/join-web.toml")),
    ("rejoin", include_str!("scenarios/rejoin.toml")),
    ("rollover", include_str!("scenarios/rollover.toml")),
    ("reincarnation", include_str!("scenarios/reincarnation.toml")),
    ("refused", include_str!("scenarios/refused.toml")),
    ("filters", include_str!("scenarios/filters.toml")),
    ("exec", include_str!("scenarios/exec.toml")),
    ("dark", include_str!("scenarios/dark.toml")),
    ("late", include_str!("scenarios/late.toml")),
    ("locked", include_str!("scenarios/locked.toml")),
    ("threads", include_str!("scenarios/threads.toml")),
    ("corners", include_str!("scenarios/corners.toml")),
    ("throttled", include_str!("scenarios/throttled.toml")),
    ("siblings", include_str!("scenarios/siblings.toml")),
    ("census", include_str!("scenarios/census.toml")),
    ("veth", include_str!("scenarios/veth.toml")),
    ("mounts", include_str!("scenarios/mounts.toml")),
    ("killed", include_str!("scenarios/killed.toml")),
    ("reaped", include_str!("scenarios/reaped.toml")),
    ("crowd", include_str!("scenarios/crowd.toml")),
    ("many", include_str!("scenarios/many.toml")),
    ("last", include_str!("scenarios/last.toml")),
    ("standalone", include_str!("scenarios/standalone.toml")),
    ("uring", include_str!("scenarios/uring.toml")),
    ("no-memory", include_str!("scenarios/no-memory.toml")),
    ("storm", include_str!("scenarios/storm.toml")),
    ("churn-short", include_str!("scenarios/churn-short.toml")),
];

/// Of these the first so many run unless others are named.
const DEFAULTS: usize = 31;

/// A scenario that cannot be used.
#[derive(Debug, Error)]
pub enum ScenarioError {
    #[error("no scenario `{name}` (hint: the embedded ones are {}; a file is named by its path, FILE.toml)", names().join(", "))]
    Unknown { name: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The parser's message has line and column.
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{}: {field} is {found}, expected {expected}", path.display())]
    Value { path: PathBuf, field: &'static str, found: String, expected: &'static str },
    #[error("{}: {objection}", path.display())]
    Step { path: PathBuf, objection: Objection },
}

/// Names of the embedded scenarios.
#[must_use]
pub fn names() -> Vec<&'static str> {
    EMBEDDED.iter().map(|(name, _)| *name).collect()
}

/// Names of those that run unless others are named.
#[must_use]
pub fn defaults() -> Vec<&'static str> {
    EMBEDDED.iter().take(DEFAULTS).map(|(name, _)| *name).collect()
}

/// The TOML of an embedded scenario.
#[must_use]
pub fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A scenario by its embedded name, or from a file: what has a `/` or ends in `.toml` is a path.
///
/// # Errors
/// If there is none, or it cannot be read or parsed.
pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
    if name.contains('/') || name.ends_with(".toml") {
        return read(Path::new(name));
    }
    let text = embedded(name).ok_or_else(|| ScenarioError::Unknown { name: name.to_owned() })?;
    parse(text, Path::new(name))
}

/// A scenario from a file.
///
/// # Errors
/// If it cannot be read or parsed.
pub fn read(path: &Path) -> Result<Scenario, ScenarioError> {
    let text =
        fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// A scenario from TOML; `path` stands in messages.
///
/// # Errors
/// If it is no scenario.
pub fn parse(text: &str, path: &Path) -> Result<Scenario, ScenarioError> {
    let path = || path.to_owned();
    let mut scenario: Scenario = toml::from_str(text).map_err(|error| ScenarioError::Parse {
        path: path(),
        message: error.to_string().trim_end().to_owned(),
    })?;
    let name_is_plain = !scenario.name.is_empty()
        && scenario
            .name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let wrong = |field, found: &dyn ToString, expected| {
        Err(ScenarioError::Value { path: path(), field, found: found.to_string(), expected })
    };
    if !name_is_plain {
        return wrong("name", &format!("`{}`", scenario.name), "lower-case letters, digits and `-`");
    }
    if !(1..=8).contains(&scenario.vcpus) {
        return wrong("vcpus", &scenario.vcpus, "1 to 8");
    }
    if !(128..=16_384).contains(&scenario.memory_mib) {
        return wrong("memory_mib", &scenario.memory_mib, "128 to 16384");
    }
    if scenario.wall_seconds == 0 || scenario.silence_seconds == 0 {
        return wrong("wall_seconds or silence_seconds", &0, "at least 1");
    }
    let symbol = |name: &String| !name.is_empty() && !name.starts_with("CONFIG_");
    if let Some(name) = scenario.needs.iter().find(|name| !symbol(name)) {
        return wrong("needs", &format!("`{name}`"), "Kconfig symbols without `CONFIG_`");
    }
    if scenario.steps.is_empty() {
        return wrong("step", &"empty", "at least one [[step]]");
    }
    objection::check_every(&scenario).map_err(|objection| ScenarioError::Step { path: path(), objection })?;
    scenario.steps = every::write_out(scenario.steps);
    objection::check(&scenario).map_err(|objection| ScenarioError::Step { path: path(), objection })?;
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use nstrail_wire::message::{HostMessage, decode, encode};

    use super::*;

    #[test]
    fn every_embedded_scenario_is_valid_and_crosses_the_wire() {
        for (name, text) in EMBEDDED {
            let scenario = parse(text, Path::new(name)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            let message = HostMessage::Start { scenario, seed: 7 };
            assert_eq!(decode::<HostMessage>(&encode(&message).unwrap()).unwrap(), message);
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_a_scenario() {
        let text = include_str!("../../../docs/scenarios.md");
        let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        assert_eq!(parse(example, Path::new("docs/scenarios.md")).unwrap().steps.len(), 6);
    }

    #[test]
    fn an_unknown_key_is_named_with_line_and_column() {
        let text =
            "name = \"x\"\ndescription = \"y\"\n[[step]]\nspawn = { call = \"clone\", flag = [\"uts\"] }\n";
        let message = parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(message.contains("x.toml") && message.contains("line 4"), "{message}");
        assert!(message.contains("flag"), "{message}");
    }

    #[test]
    fn an_unknown_namespace_type_names_those_that_are_known() {
        let text = "name = \"x\"\ndescription = \"y\"\n[[step]]\nunshare = { flags = [\"network\"] }\n";
        let message = parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(message.contains("network") && message.contains("`net`"), "{message}");
    }

    #[test]
    fn a_name_that_is_no_file_name_is_refused() {
        let text = "name = \"../x\"\ndescription = \"y\"\n[[step]]\nfence = {}\n";
        let message = parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(message.contains("../x") && message.contains("lower-case"), "{message}");
    }

    #[test]
    fn a_need_is_a_symbol_without_its_prefix() {
        let text = "name = \"x\"\ndescription = \"y\"\nneeds = [\"CONFIG_VETH\"]\n[[step]]\nfence = {}\n";
        let message = parse(text, Path::new("x.toml")).unwrap_err().to_string();
        assert!(message.contains("CONFIG_VETH") && message.contains("without `CONFIG_`"), "{message}");
        let fine = text.replace("CONFIG_", "");
        assert_eq!(parse(&fine, Path::new("x.toml")).unwrap().needs, ["VETH"]);
    }

    #[test]
    fn an_unknown_scenario_names_those_that_are_known() {
        let message = find("smok").unwrap_err().to_string();
        assert!(
            message.contains(
                "smoke, nest, quiet, churn, flags, kept, deep-tree, join-web, rejoin, rollover, reincarnation, refused, filters, exec, dark, late, locked, threads, corners, throttled, siblings, census, veth, mounts, killed, reaped, crowd, many, last, standalone, uring, no-memory, storm, churn-short"
            ),
            "{message}"
        );
    }
}
