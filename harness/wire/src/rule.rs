// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit rules, as far as scenarios need them (include/uapi/linux/audit.h, `struct audit_rule_data`).

use serde::{Deserialize, Serialize};

use crate::version::KernelVersion;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names the rule within the scenario, and is its key where the list takes one.
    pub key: String,
    pub list: RuleList,
    pub action: RuleAction,
    /// None means all of them; not for `exclude`.
    #[serde(default)]
    pub calls: Vec<RuleCall>,
    /// All must hold.
    #[serde(default)]
    pub fields: Vec<RuleField>,
    /// Older kernels do not have the list: the rule is left out.
    #[serde(default)]
    pub since: Option<KernelVersion>,
}

/// The filter that a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleList {
    Exit,
    Exclude,
    IoUring,
    /// Asked when a task is made: `never` makes one that has no audit context all its life.
    Task,
}

impl RuleList {
    /// `AUDIT_FILTER_*`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Task => 1,
            Self::Exit => 4,
            Self::Exclude => 5,
            Self::IoUring => 7,
        }
    }

    /// Whether rules of this list carry a key: one in `exclude` would match everything (audit_filter, 6.12).
    #[must_use]
    pub const fn takes_key(self) -> bool {
        !matches!(self, Self::Exclude)
    }
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    Never,
    Always,
}

impl RuleAction {
    /// `AUDIT_NEVER`, `AUDIT_ALWAYS`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Never => 0,
            Self::Always => 2,
        }
    }
}

/// A system call (list `exit`) or an io_uring operation (list `io_uring`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleCall {
    Prctl,
    Ptrace,
    UringMkdirat,
    Rename,
    ExitGroup,
    UringOpenat,
}

impl RuleCall {
    /// Its number on x86-64, or the `IORING_OP_*`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Prctl => 157,
            Self::Ptrace => 101,
            Self::UringMkdirat => 37,
            Self::Rename => 82,
            Self::ExitGroup => 231,
            Self::UringOpenat => 18,
        }
    }

    /// The list that it can stand in.
    #[must_use]
    pub const fn list(self) -> RuleList {
        match self {
            Self::Prctl | Self::Ptrace | Self::Rename | Self::ExitGroup => RuleList::Exit,
            Self::UringMkdirat | Self::UringOpenat => RuleList::IoUring,
        }
    }
}

/// A field that must equal a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleField {
    /// First argument of the call.
    A0(u32),
    /// Third argument of the call.
    A2(u32),
    /// Record type (list `exclude`).
    RecordType(u32),
}

impl RuleField {
    /// `AUDIT_ARG0`, `AUDIT_ARG2` or `AUDIT_MSGTYPE`, and the value.
    #[must_use]
    pub const fn pair(self) -> (u32, u32) {
        match self {
            Self::A0(value) => (200, value),
            Self::A2(value) => (202, value),
            Self::RecordType(value) => (12, value),
        }
    }
}
